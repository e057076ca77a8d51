//! PAX extended headers: `length key=value\n` records (POSIX.1-2001, pax).

use super::Fault;

/// Longest extended header or long name accepted, bytes. An archive chooses this number, so it
/// bounds what one entry can make us hold in memory.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;

/// The records that matter. `None` means: the ordinary header counts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extension {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(i64, u32)>,
    /// Extended attributes, by name.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Sparse,
}

/// GNU tar's records about holes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sparse {
    /// Version 0.1: `offset,length,…` in one record.
    pub(crate) map: Option<Vec<u8>>,
    /// Version 0.0 or an unknown one.
    pub(crate) unsupported: bool,
    /// Version 1.0: the map is at the start of the data.
    pub(crate) in_data: bool,
    /// Size of the file with its holes.
    pub(crate) real_size: Option<u64>,
    /// The file's name, `path` holds an invented one.
    pub(crate) name: Option<Vec<u8>>,
}

/// Reads all records; anything that two readers could take differently is refused.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Extension, Fault> {
    let mut extension = Extension::default();
    let mut major_minor = (None, None);
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes)?;
        bytes = rest;
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err(Fault::malformed("an extended attribute without a name"));
            }
            extension.xattrs.retain(|(known, _)| known != name);
            extension.xattrs.push((name.to_vec(), value.to_vec()));
            continue;
        }
        let sparse = &mut extension.sparse;
        match key {
            b"path" => extension.path = text(value)?,
            b"linkpath" => extension.link = text(value)?,
            b"size" => extension.size = number(value)?,
            b"uid" => extension.uid = number(value)?,
            b"gid" => extension.gid = number(value)?,
            b"mtime" => extension.mtime = time(value)?,
            b"GNU.sparse.major" => major_minor.0 = number(value)?,
            b"GNU.sparse.minor" => major_minor.1 = number(value)?,
            b"GNU.sparse.map" => sparse.map = text(value)?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => sparse.unsupported = true,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => sparse.real_size = number(value)?,
            b"GNU.sparse.name" => sparse.name = text(value)?,
            _ => {}
        }
    }
    match major_minor {
        (None, None) | (Some(0), _) => {}
        (Some(1), Some(0)) => extension.sparse.in_data = true,
        _ => extension.sparse.unsupported = true,
    }
    Ok(extension)
}

/// Key, value, and what follows.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Takes one record off the front.
fn record(bytes: &[u8]) -> Result<Record<'_>, Fault> {
    let malformed = || Fault::malformed("an extended header record does not parse");
    let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or_else(malformed)?;
    let length = number(&bytes[..space])?.ok_or_else(malformed)?;
    let length = usize::try_from(length).map_err(|_| malformed())?;
    if length > bytes.len() || length < space + 4 {
        return Err(malformed());
    }
    let (record, rest) = bytes.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n").ok_or_else(malformed)?;
    let equals = body.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
    if equals == 0 {
        return Err(malformed());
    }
    Ok((&body[..equals], &body[equals + 1..], rest))
}

/// A name; empty means "as in the ordinary header".
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    if value.contains(&0) {
        return Err(Fault::malformed("a name in an extended header holds a NUL"));
    }
    Ok(if value.is_empty() { None } else { Some(value.to_vec()) })
}

/// A non-negative decimal number; empty means "as in the ordinary header".
fn number(value: &[u8]) -> Result<Option<u64>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    match parsed {
        Some(number) => Ok(Some(number)),
        None => Err(Fault::malformed("a number in an extended header does not parse")),
    }
}

/// Seconds with an optional fraction; whole seconds and nanoseconds.
fn time(value: &[u8]) -> Result<Option<(i64, u32)>, Fault> {
    let malformed = || Fault::malformed("a time in an extended header does not parse");
    let text = std::str::from_utf8(value).map_err(|_| malformed())?;
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| malformed())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| malformed())?;
    if whole.starts_with('-') && nanoseconds != 0 {
        // -1.25 s is -2 s and 750 ms: the kernel wants a positive fraction.
        let below = seconds.checked_sub(1).ok_or_else(malformed)?;
        return Ok(Some((below, 1_000_000_000 - nanoseconds)));
    }
    Ok(Some((seconds, nanoseconds)))
}

/// Reads `offset,length,offset,length,…`.
pub(crate) fn sparse_map(map: &[u8], most: usize) -> Result<Vec<(u64, u64)>, Fault> {
    let malformed = || Fault::malformed("the map of a sparse file does not parse");
    let mut numbers = map.split(|&byte| byte == b',');
    let mut regions = Vec::new();
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or_else(malformed)?;
        let parse = |text: &[u8]| number(text)?.ok_or_else(malformed);
        regions.push((parse(offset)?, parse(length)?));
        if regions.len() > most {
            return Err(Fault::malformed("a sparse file has too many regions"));
        }
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        let bytes = b"13 path=a/b\xff\n20 mtime=-1.2500000\n13 size=0042\n26 SCHILY.xattr.user.x=\0y\n13 comment=z\n";
        let extension = parse(bytes).expect("well formed");
        assert_eq!(extension.path.as_deref(), Some(&b"a/b\xff"[..]));
        assert_eq!(extension.mtime, Some((-2, 750_000_000)));
        assert_eq!(extension.size, Some(42));
        assert_eq!(extension.xattrs, [(b"user.x".to_vec(), b"\0y".to_vec())]);
    }

    #[test]
    fn refuses_what_readers_could_disagree_about() {
        for bytes in [
            &b"5"[..],
            b"12 path=a\n",
            b"8 path=a\n",
            b"9 path=a\nx",
            b"10 path=a\0\n",
            b"9 size=-1\n",
            b"9 size=+1\n",
            b"30 size=99999999999999999999\n",
            b"7 =abc\n",
            b"08path=a\n",
            b"99999999999999999999999 path=a\n",
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
