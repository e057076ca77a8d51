//! Which devices a group may open or make.

use std::fmt;
use std::str::FromStr;

/// Kind of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Both.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Access {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Make a node.
    pub mknod: bool,
}

impl Access {
    /// Everything: `rwm`.
    pub const ALL: Access = Access { read: true, write: true, mknod: true };

    /// From letters `r`, `w`, `m` in any order, at least one.
    pub fn parse(text: &str) -> Option<Access> {
        let mut access = Access::default();
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.mknod = true,
                _ => return None,
            }
        }
        (access != Access::default()).then_some(access)
    }

    /// As the kernel's BPF_DEVCG_ACC_* bits: mknod 1, read 2, write 4.
    pub(super) fn bits(self) -> i32 {
        i32::from(self.mknod) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }
}

/// One rule. Prints as the kernel's v1 files and Docker's `--device-cgroup-rule` have it: `c 1:3 rwm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceRule {
    /// Open or close.
    pub allow: bool,
    /// Which nodes.
    pub kind: DeviceKind,
    /// `None`: any.
    pub major: Option<u32>,
    /// `None`: any.
    pub minor: Option<u32>,
    /// For what.
    pub access: Access,
}

impl DeviceRule {
    /// Closes every device.
    pub const DENY_ALL: DeviceRule =
        DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: Access::ALL };
    /// Opens every device.
    pub const ALLOW_ALL: DeviceRule = DeviceRule { allow: true, ..DeviceRule::DENY_ALL };

    /// Whether it speaks about every device and every access.
    pub fn is_total(&self) -> bool {
        self.kind == DeviceKind::All && self.major.is_none() && self.minor.is_none() && self.access == Access::ALL
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        write!(f, "{kind} ")?;
        for (number, end) in [(self.major, ":"), (self.minor, " ")] {
            match number {
                Some(number) => write!(f, "{number}{end}")?,
                None => write!(f, "*{end}")?,
            }
        }
        for (on, letter) in [(self.access.read, "r"), (self.access.write, "w"), (self.access.mknod, "m")] {
            f.write_str(if on { letter } else { "" })?;
        }
        Ok(())
    }
}

/// A `--device-cgroup-rule` that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid device cgroup format '{text}'")]
pub struct BadRule {
    /// As given.
    pub text: String,
}

impl FromStr for DeviceRule {
    type Err = BadRule;

    /// Reads an allowing rule: `a *:* rwm`, `c 1:* r`.
    fn from_str(text: &str) -> Result<DeviceRule, BadRule> {
        let bad = || BadRule { text: text.to_owned() };
        let mut words = text.split(' ');
        let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad());
        };
        let kind = match kind {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Char,
            _ => return Err(bad()),
        };
        let number = |text: &str| match text {
            "*" => Ok(None),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map(Some).map_err(|_| bad()),
            _ => Err(bad()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
        Ok(DeviceRule {
            allow: true,
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: Access::parse(access).filter(|_| access.len() <= 3).ok_or_else(bad)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_and_print() {
        for text in ["c 1:3 rwm", "a *:* rwm", "b 8:* r", "c 10:200 m", "c *:* rm"] {
            assert_eq!(text.parse::<DeviceRule>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "c 1:3",
            "c 1:3 ",
            "c 1:3 x",
            "d 1:3 r",
            "c 1 r",
            "c -1:3 r",
            "c +1:3 r",
            "c 1:3 rwmr",
            "c 1:99999999999 r",
        ] {
            assert!(text.parse::<DeviceRule>().is_err(), "{text:?}");
        }
    }
}
