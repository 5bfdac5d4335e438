//! Text of text; above all of text that somebody else wrote.
#![allow(clippy::needless_pass_by_value)] // the engine hands them over

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tera::{Error, Kwargs, State, TeraResult};

/// `text` as one nginx argument in double quotes.
pub(super) fn nginx_quote(text: &str, _: Kwargs, _: &State) -> TeraResult<String> {
    if text.contains(|c: char| c.is_control() || c == '$') {
        return Err(Error::message(format!(
            "nginx_quote: {text:?} has a control character or a $, which nginx cannot quote"
        )));
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// `text` as one HAProxy argument in single quotes, which leave nothing in it with a meaning.
pub(super) fn haproxy_quote(text: &str, _: Kwargs, _: &State) -> TeraResult<String> {
    if text.contains(char::is_control) {
        return Err(Error::message(format!(
            "haproxy_quote: {text:?} has a control character, which HAProxy cannot quote"
        )));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// `text` as a name that nginx, HAProxy and most others take: anything but letters, digits, `_`, `.`, `-` becomes `_`.
pub(super) fn ident(text: &str, _: Kwargs, _: &State) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

pub(super) fn sha256(text: &str, _: Kwargs, _: &State) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
