//! Which kernel this is, and what it says.

use std::io;

/// Major and minor version of the running kernel, `(6, 1)` for `6.1.0-18-amd64`; zeros when it does not say.
pub fn version() -> (u32, u32) {
    parse(rustix::system::uname().release().to_bytes())
}

/// The last `bytes` of the kernel's log, syslog(2): lines such as `<6>[   12.345678] text`.
///
/// # Errors
/// When the caller may not read it (CAP_SYSLOG).
pub fn log_tail(bytes: usize) -> io::Result<String> {
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0u8; bytes];
    let room = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the buffer is writable for `room` bytes, and the kernel writes no more.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), room) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    buffer.truncate(read);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

fn parse(release: &[u8]) -> (u32, u32) {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0_u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    });
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse(b"6.18.44-fc-v509"), (6, 18));
        assert_eq!(parse(b"4.8"), (4, 8));
        assert_eq!(parse(b"7"), (7, 0));
        assert_eq!(parse(b""), (0, 0));
        assert_eq!(parse(b"99999999999.1"), (u32::MAX, 1));
    }
}
