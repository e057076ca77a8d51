//! Numbers of the first generation in terms of the second. Formulas as published with runc's cgroups library 0.0.6 and
//! the OCI runtime specification.

use super::Error;

/// cpu.shares (2 to 262144) as cpu.weight (1 to 10000): quadratic in the logarithm, so that both defaults (1024 and
/// 100) meet and both ends too. 0 means "not given" and stays 0.
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            // Exact in f64: shares is below 2^18.
            let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            let weight = 10_f64.powf(exponent).ceil();
            // Bounded by the arms above to 1..=10000.
            weight as u64
        }
    }
}

/// blkio.weight (10 to 1000) as io.weight (1 to 10000), linear.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// memory+swap as swap alone, for memory.swap.max. `None`: leave it.
///
/// # Errors
/// When the sum is below the memory limit, or given without one.
pub fn swap_alone(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>, Error> {
    let bad = |value: i64, reason| Error::BadValue { what: "memory-swap", value: value.to_string(), reason };
    match (limit.unwrap_or(0), both.unwrap_or(0)) {
        // Without limit on memory there is none on swap either.
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (-1, both) => Err(bad(both, "swap is limited but memory is not")),
        (0, both) => Err(bad(both, "a swap limit needs a memory limit")),
        (limit, both) if both < limit => Err(bad(both, "it must not be below the memory limit")),
        (limit, both) => Ok(Some(both - limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight() {
        let cases = [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (1_000_000, 10_000)];
        for (shares, weight) in cases {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        let weights: Vec<u64> = (2..262_144).step_by(97).map(cpu_weight).collect();
        assert!(weights.is_sorted(), "more shares never weigh less");
        assert!(weights.iter().all(|weight| (1..=10_000).contains(weight)));
    }

    #[test]
    fn io_ends_meet() {
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn swap() {
        assert_eq!(swap_alone(Some(100), Some(300)).expect("valid"), Some(200));
        assert_eq!(swap_alone(Some(100), Some(100)).expect("valid"), Some(0));
        assert_eq!(swap_alone(Some(100), Some(-1)).expect("valid"), Some(-1));
        assert_eq!(swap_alone(Some(100), None).expect("valid"), None);
        assert_eq!(swap_alone(Some(-1), Some(-1)).expect("valid"), Some(-1));
        for (limit, both) in [(Some(100), Some(50)), (None, Some(50)), (Some(-1), Some(50))] {
            assert!(swap_alone(limit, both).is_err());
        }
    }
}
