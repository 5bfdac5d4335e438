//! An error with what caused it, in words.

use std::error::Error;

/// The text of `error` and of what caused it, the outermost first; a text that an earlier one holds already is left out.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let text = cause.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

/// The same in one line.
pub fn with_causes(error: &dyn Error) -> String {
    causes(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        Layer { text, cause: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn each_cause_is_told_once() {
        for (texts, expected) in [
            (&["a"][..], "a"),
            (&["no file", "disk on fire"], "no file: disk on fire"),
            (&["no file: disk on fire", "disk on fire", "smoke"], "no file: disk on fire: smoke"),
        ] {
            assert_eq!(with_causes(&layers(texts)), expected);
        }
    }
}
