//! States of checks and what they make of an instance: the worst wins.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a check; the order is the severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Passing,
    /// Still offered, but somebody should look.
    Warning,
    /// Not offered.
    Critical,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The state that `word` names; `None` if it names none.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|s| s.as_str() == word)
    }

    /// The worst of `all`; without any, passing.
    pub fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().max().unwrap_or(Self::Passing)
    }
}

/// How many results in a row it takes until they become the status of the check; 0 and 1: at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Passing or warning results before the check is what they say.
    #[serde(default)]
    pub success_before_passing: u32,
    /// Critical results before the check warns; at most `failures_before_critical`.
    #[serde(default)]
    pub failures_before_warning: u32,
    /// Critical results before the check is critical.
    #[serde(default)]
    pub failures_before_critical: u32,
}

impl Thresholds {
    /// Whether every result counts at once.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts the results of one probe against its thresholds.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    thresholds: Thresholds,
    successes: u32,
    failures: u32,
}

impl Counter {
    /// Both counts start at their thresholds, so that the first result always applies.
    pub fn new(thresholds: Thresholds) -> Self {
        let (successes, failures) = (thresholds.success_before_passing, thresholds.failures_before_critical);
        Self { thresholds, successes, failures }
    }

    /// Counts a result, and says what the check is by it; `None`: what it was.
    pub fn count(&mut self, result: Status) -> Option<Status> {
        let limits = self.thresholds;
        if result == Status::Critical {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            let warns = self.failures >= limits.failures_before_warning;
            let fails = self.failures >= limits.failures_before_critical;
            return if fails { Some(result) } else { warns.then_some(Status::Warning) };
        }
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        (self.successes >= limits.success_before_passing).then_some(result)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Counter,
        Status::{self, Critical, Passing, Warning},
        Thresholds,
    };

    #[test]
    fn the_worst_wins() {
        assert_eq!(Status::worst([]), Passing);
        assert_eq!(Status::worst([Passing, Warning]), Warning);
        assert_eq!(Status::worst([Warning, Critical, Passing]), Critical);
    }

    /// The status after each result; `results` and `expected` a letter each: p, w, c, and `-` for unchanged.
    fn counted(success: u32, warning: u32, critical: u32, results: &str) -> String {
        let thresholds = Thresholds {
            success_before_passing: success,
            failures_before_warning: warning,
            failures_before_critical: critical,
        };
        let mut counter = Counter::new(thresholds);
        let letters = [('p', Passing), ('w', Warning), ('c', Critical)];
        let status = |letter| letters.iter().find(|(l, _)| *l == letter).expect("a letter of the table").1;
        let letter = |status| letters.iter().find(|(_, s)| *s == status).expect("every status").0;
        results.chars().map(|result| counter.count(status(result)).map_or('-', letter)).collect()
    }

    #[test]
    fn results_count_once_there_are_enough_in_a_row() {
        for (success, warning, critical, results, expected) in [
            (0, 0, 0, "pcwcp", "pcwcp"),
            (1, 1, 1, "pcwcp", "pcwcp"),
            // The first result applies, whatever it is; what follows is counted from nothing.
            (3, 3, 3, "pccc", "p--c"),
            (3, 3, 3, "cppp", "c--p"),
            (3, 3, 3, "ccpcpp", "cc----"),
            // Passing and warning both count as success, and the last of them says which.
            (3, 1, 1, "cpwp", "c--p"),
            (2, 1, 1, "cpw", "c-w"),
            // It warns before it is critical.
            (0, 2, 4, "pccccc", "p-wwcc"),
            (0, 1, 3, "pcccp", "pwwcp"),
            (0, 0, 3, "pccc", "pwwc"),
            // One result of the other kind starts the count anew.
            (0, 2, 2, "pcpcpcc", "p-p-p-c"),
            (2, 0, 0, "cpcpcpp", "c-c-c-p"),
        ] {
            assert_eq!(
                counted(success, warning, critical, results),
                expected,
                "{success} {warning} {critical} {results}"
            );
        }
    }
}
