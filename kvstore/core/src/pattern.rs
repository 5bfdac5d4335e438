//! Regular expressions: those of RE2, as Go reads them, compiled by `regex` within bounds.
//!
//! Both are linear in the text and share nearly all of their syntax. What differs is rewritten: `\d`, `\s` and `\w` are
//! ASCII in RE2, it has `\Q...\E`, takes a `{` that counts nothing and a `[` in a class for itself, and has no
//! operations on classes. `\b` stays Unicode's.

use regex::{Regex, RegexBuilder};

/// The most memory of one compiled expression, and of its cache while matching.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

const MAX_NESTING: u32 = 50;

/// `re2`, ready to match; else why not, in a line.
pub(crate) fn compile(re2: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(re2))
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_NESTING)
        .octal(true)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("compiled, it takes more than {MAX_COMPILED_BYTES} bytes"),
            // Several lines, the last of which says what is wrong.
            other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        })
}

fn translate(re2: &str) -> String {
    let mut out = String::with_capacity(re2.len() + 16);
    let mut rest = re2;
    while let Some(char) = rest.chars().next() {
        rest = match char {
            '\\' => match rest.strip_prefix(r"\Q") {
                Some(literal) => quoted(literal, &mut out),
                None => escape(rest, &mut out),
            },
            '[' => class(rest, &mut out),
            '{' if !counts(rest) => push(r"\{", rest, 1, &mut out),
            _ => push(&rest[..char.len_utf8()], rest, char.len_utf8(), &mut out),
        };
    }
    out
}

/// Writes `text` in place of the first `bytes` of `rest`.
fn push<'a>(text: &str, rest: &'a str, bytes: usize, out: &mut String) -> &'a str {
    out.push_str(text);
    &rest[bytes..]
}

/// What follows `\Q`, up to `\E` or the end, for itself.
fn quoted<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let (literal, rest) = rest.split_once(r"\E").unwrap_or((rest, ""));
    out.push_str(&regex::escape(literal));
    rest
}

/// A backslash and what belongs to it.
fn escape<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let Some(char) = rest[1..].chars().next() else { return push(rest, rest, 1, out) };
    let (text, bytes) = match char {
        'd' => ("[0-9]", 2),
        'D' => ("[^0-9]", 2),
        's' => (r"[\t\n\f\r ]", 2),
        'S' => (r"[^\t\n\f\r ]", 2),
        'w' => ("[0-9A-Za-z_]", 2),
        'W' => ("[^0-9A-Za-z_]", 2),
        // `regex` takes them for the ends of words.
        '<' => ("<", 2),
        '>' => (">", 2),
        // Their braces count nothing and stay.
        'p' | 'P' | 'x' if rest[2..].starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |at| at + 1);
            (&rest[..end], end)
        }
        other => (&rest[..=other.len_utf8()], 1 + other.len_utf8()),
    };
    push(text, rest, bytes, out)
}

/// A class in brackets.
fn class<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let start = if rest.starts_with("[^") { "[^" } else { "[" };
    let mut rest = push(start, rest, start.len(), out);
    let opened = out.len();
    if rest.starts_with(']') {
        rest = push(r"\]", rest, 1, out);
    }
    while let Some(char) = rest.chars().next() {
        rest = match char {
            ']' => return push("]", rest, 1, out),
            '\\' => escape(rest, out),
            '[' => match rest.find(":]").filter(|_| rest.starts_with("[:")) {
                Some(at) => push(&rest[..at + 2], rest, at + 2, out),
                None => push(r"\[", rest, 1, out),
            },
            '&' => push(r"\&", rest, 1, out),
            '~' => push(r"\~", rest, 1, out),
            // The first of a class, or the end of a range: `[--n]`, `[+--]`.
            '-' if out.len() == opened || out.ends_with('-') && !out.ends_with(r"\-") => push(r"\-", rest, 1, out),
            _ => push(&rest[..char.len_utf8()], rest, char.len_utf8(), out),
        };
    }
    rest
}

/// Whether the `{` that `rest` begins with says how often: `{2}`, `{2,}` or `{2,3}`.
fn counts(rest: &str) -> bool {
    let Some((inside, _)) = rest[1..].split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, "0"));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}
