//! Which kernel this is.

/// Major and minor version of the running kernel, `(6, 1)` for `6.1.0-18-amd64`; zeros when it does not say.
pub fn version() -> (u32, u32) {
    parse(rustix::system::uname().release().to_bytes())
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
