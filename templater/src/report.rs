//! Errors in words: what went wrong, on what, why, and what to do next.

use std::fmt::Write;

/// `what`, then its cause and what to try, each on lines of its own.
pub(crate) fn with_details(what: &str, cause: &str, hint: Option<&str>) -> String {
    let mut text = what.to_owned();
    let mut add = |label: &str, body: &str| {
        for (at, line) in body.trim_end().lines().enumerate() {
            let label = if at == 0 { label } else { "" };
            let _ = write!(text, "\n  {label:<6} {line}");
        }
    };
    add("cause:", cause);
    add("try:", hint.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn details_are_indented_under_their_labels() {
        assert_eq!(
            super::with_details("a.cfg is bad", "line 1\nline 2\n", Some("do this")),
            "a.cfg is bad\n  cause: line 1\n         line 2\n  try:   do this"
        );
        assert_eq!(super::with_details("a", "b", None), "a\n  cause: b");
    }
}
