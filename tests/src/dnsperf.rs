//! What `dnsperf` tells of a run.

/// What one run came to.
pub struct Ran {
    /// Questions answered in a second.
    pub rate: f64,
    /// Questions answered.
    pub replies: usize,
    /// Questions that nobody answered in time.
    pub lost: usize,
}

impl Ran {
    /// Reads what it prints at its end.
    ///
    /// # Panics
    /// If that is not all there, or any answer was none that a name has that is there.
    pub fn parse(text: &str) -> Self {
        let told = |name: &str| {
            let rest = text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
            rest.unwrap_or_else(|| panic!("dnsperf said nothing of {name:?}: {text}"))
        };
        let codes = told("Response codes:");
        assert!(codes.starts_with("NOERROR ") && !codes.contains(','), "not all were answered well: {codes}");
        let number = |name| told(name).split_whitespace().next().unwrap_or_default();
        let count = |name| number(name).parse().expect("a number");
        let rate = number("Queries per second:").parse().expect("a number");
        Self { rate, replies: count("Queries completed:"), lost: count("Queries lost:") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dnsperf_prints() {
        let text = "Statistics:\n\n  \
                    Queries sent:         3\n  \
                    Queries completed:    2 (66.67%)\n  \
                    Queries lost:         1 (33.33%)\n\n  \
                    Response codes:       NOERROR 2 (100.00%)\n  \
                    Queries per second:   2.500000\n";
        let ran = Ran::parse(text);
        assert_eq!((ran.rate.to_string().as_str(), ran.replies, ran.lost), ("2.5", 2, 1));
        let other = text.replace("NOERROR 2 (100.00%)", "NOERROR 1 (50.00%), SERVFAIL 1 (50.00%)");
        assert!(std::panic::catch_unwind(|| Ran::parse(&other)).is_err(), "a bad answer is no answer");
    }
}
