//! The one place where the engine looks at the clock.

use budu_spec::units;
use jiff::Timestamp;

/// Now, in nanoseconds of Unix time.
pub(crate) fn now() -> i64 {
    nanos(Timestamp::now())
}

/// An instant in nanoseconds of Unix time.
pub(crate) fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Prints nanoseconds of Unix time as Docker prints instants; 0 is "never".
pub(crate) fn print(nanos: i64) -> String {
    units::print_time(nanos)
}
