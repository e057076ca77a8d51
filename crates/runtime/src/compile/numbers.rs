//! Lists of processors and memory nodes, as cpuset(7) writes them: `0-3,7`.

use std::ops::RangeInclusive;

/// More than any kernel has: longer masks are not made.
const LIMIT: u32 = 1024;

/// The numbers, sorted, each once. Spaces and superfluous commas are forgiven.
pub(super) fn list(text: &str) -> Result<Vec<u32>, String> {
    let mut all: Vec<u32> = Vec::new();
    for range in ranges(text) {
        let range = range?;
        if *range.end() >= LIMIT {
            return Err(format!("values larger than {} are not supported", LIMIT - 1));
        }
        all.extend(range);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn ranges(text: &str) -> impl Iterator<Item = Result<RangeInclusive<u32>, String>> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
            (Ok(_), Ok(_)) => Err(format!("invalid range: {part}")),
            _ => Err(format!("{part:?} is no number and no range")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(list(""), Ok(vec![]));
        assert_eq!(list("7, 0-2,,1"), Ok(vec![0, 1, 2, 7]));
        assert_eq!(list("3-1"), Err("invalid range: 3-1".into()));
        assert!(list("a").is_err() && list("-1").is_err() && list("1-").is_err());
        assert!(list("1023").is_ok() && list("1024").is_err() && list("0-4294967295").is_err());
    }
}
