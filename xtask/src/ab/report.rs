//! Medians and ratios, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::memory::Memory;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    PerSecond,
    Megabytes,
    Kilobytes,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::PerSecond => "/s",
            Unit::Megabytes => "MB",
            Unit::Kilobytes => "KB",
            Unit::Count => "",
        }
    }
}

/// Everything measured, by case and contender.
#[derive(Debug, Default)]
pub(super) struct Report {
    cases: BTreeMap<String, Case>,
}

#[derive(Debug, Default)]
struct Case {
    unit: Option<Unit>,
    contenders: BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    fn add(&mut self, case: &str, unit: Unit, who: &'static str, value: f64) {
        let case = self.cases.entry(case.to_owned()).or_default();
        case.unit = Some(unit);
        case.contenders.entry(who).or_default().push(value);
    }

    pub(super) fn time(&mut self, case: &str, who: &'static str, taken: Duration) {
        self.add(case, Unit::Milliseconds, who, taken.as_secs_f64() * 1e3);
    }

    pub(super) fn rate(&mut self, case: &str, who: &'static str, count: usize, taken: Duration) {
        self.add(case, Unit::PerSecond, who, count as f64 / taken.as_secs_f64());
    }

    pub(super) fn megabytes(&mut self, case: &str, who: &'static str, bytes: u64) {
        self.add(case, Unit::Megabytes, who, bytes as f64 / 1e6);
    }

    pub(super) fn memory(&mut self, who: &'static str, count: usize, before: &Memory, after: &Memory) {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let each = |bytes: u64| bytes as f64 / 1e3 / count as f64;
        self.add(&format!("d  engine with {count} containers"), Unit::Megabytes, who, mega(after.engine));
        self.add("d  engine without containers", Unit::Megabytes, who, mega(before.engine));
        self.add("d  daemon process with containers", Unit::Megabytes, who, mega(after.daemon));
        let grown = after.engine.saturating_sub(before.engine);
        self.add("d  engine's growth per container", Unit::Kilobytes, who, each(grown));
        let private = after.private.saturating_sub(before.private);
        self.add("d  private memory of helpers per container", Unit::Kilobytes, who, each(private));
        let helpers = after.processes.saturating_sub(before.processes) as f64 / count as f64;
        self.add("d  helper processes per container", Unit::Count, who, helpers);
    }
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1)) as f64 * part;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low_value), Some(high_value)) => low_value + (high_value - low_value) * at.fract(),
        _ => f64::NAN,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, Case { unit, contenders }) in &self.cases {
            let unit = unit.map_or("", Unit::name);
            writeln!(f, "{case}")?;
            let ours = contenders.get("budu").map(|values| quantile(values, 0.5));
            for (who, values) in contenders {
                let median = quantile(values, 0.5);
                let (low, high) = (quantile(values, 0.1), quantile(values, 0.9));
                write!(f, "   {who:8} {median:9.2} {unit:2}   10%..90% {low:8.2} .. {high:8.2}   n={}", values.len())?;
                match ours {
                    Some(ours) if *who != "budu" => writeln!(f, "   {who}/budu = {:.2}", median / ours)?,
                    _ => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[5.0], 0.9), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_report_names_the_ratio() {
        let mut report = Report::default();
        report.time("a  case", "budu", Duration::from_millis(10));
        report.time("a  case", "dockerd", Duration::from_millis(250));
        let text = report.to_string();
        assert!(text.contains("dockerd/budu = 25.00"), "{text}");
    }
}
