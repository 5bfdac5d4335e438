//! Figures: medians, and how a row of them is told.

use std::{fmt, time::Duration};

/// Times of one thing done again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort();
    }

    /// The time that `percent` of all did not exceed.
    pub(crate) fn at(&self, percent: usize) -> Duration {
        self.0.get((self.0.len() * percent / 100).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().copied()
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(50)
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort();
        Self(times)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| ms(self.at(percent));
        let (min, median, p90, max) = (at(0), at(50), at(90), at(100));
        // Below a millisecond a tenth of it tells too little.
        if median < 1.0 {
            return write!(f, "median {median:.2} ms (n={}, min {min:.2}, p90 {p90:.2}, max {max:.2})", self.0.len());
        }
        write!(f, "median {median:.1} ms (n={}, min {min:.1}, p90 {p90:.1}, max {max:.1})", self.0.len())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One line of the result.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) found: String,
    /// What is asked for, and whether that was reached; none where a figure is told only beside another.
    pub(crate) bound: Option<(String, bool)>,
}

impl Row {
    pub(crate) fn within(what: &'static str, times: &Times, limit: Duration, others: &str) -> Self {
        let bound = (format!("under {} ms; {others}", ms(limit)), times.median() < limit);
        Self { what, found: times.to_string(), bound: Some(bound) }
    }

    /// What 99 of 100 did not exceed.
    pub(crate) fn p99_within(what: &'static str, times: &Times, limit: Duration, others: &str) -> Self {
        let found = times.at(99);
        let bound = (format!("under {} ms; {others}", ms(limit)), found < limit);
        Self { what, found: format!("{:.1} ms", ms(found)), bound: Some(bound) }
    }

    pub(crate) fn told(what: &'static str, found: &impl ToString) -> Self {
        Self { what, found: found.to_string(), bound: None }
    }

    /// How many times what `of` does was reached.
    pub(crate) fn ratio(what: &'static str, ratio: f64, of: &str, least: f64) -> Self {
        let bound = Some((format!("at least {least} of it"), ratio >= least));
        Self { what, found: format!("{ratio:.2} of {of}"), bound }
    }

    /// Something that may be at most `limit` times what it is compared with.
    pub(crate) fn at_most(what: &'static str, ratio: f64, of: &str, limit: f64) -> Self {
        let bound = Some((format!("at most {limit} of it"), ratio <= limit));
        Self { what, found: format!("{ratio:.2} of {of}"), bound }
    }

    /// How many there were of something that there should be none of.
    pub(crate) fn none(what: &'static str, found: usize) -> Self {
        Self { what, found: found.to_string(), bound: Some(("none".into(), found == 0)) }
    }

    /// Of something, so many a second.
    pub(crate) fn rate(what: &'static str, rate: f64) -> Self {
        Self::told(what, &format!("{rate:.0}"))
    }

    /// The same with more said of it.
    pub(crate) fn note(mut self, note: impl std::fmt::Display) -> Self {
        self.found = format!("{} ({note})", self.found);
        self
    }

    pub(crate) fn holds(&self) -> bool {
        self.bound.as_ref().is_none_or(|(_, reached)| *reached)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<42} {}", self.what, self.found)?;
        match &self.bound {
            Some((bound, reached)) => write!(f, "  [{}: {bound}]", if *reached { "ok" } else { "MISSED" }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let mut times = Times::default();
        for ms in [9, 1, 5] {
            times.push(Duration::from_millis(ms));
        }
        assert_eq!(times.median(), Duration::from_millis(5));
        assert_eq!((times.at(0), times.at(100)), (Duration::from_millis(1), Duration::from_millis(9)));
        assert!(Row::within("x", &times, Duration::from_millis(6), "").holds());
        assert!(!Row::within("x", &times, Duration::from_millis(5), "").holds());
        assert!(!Row::p99_within("x", &times, Duration::from_millis(9), "").holds());
        let row = Row::p99_within("x", &times, Duration::from_micros(9500), "others 12");
        assert!(row.holds() && row.to_string().ends_with("9.0 ms  [ok: under 9.5 ms; others 12]"), "{row}");
    }
}
