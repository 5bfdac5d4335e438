//! Finds arguments that no function, filter or test takes, without rendering: a pass sees only what it comes by. Pure.
//!
//! A small lexer of Tera's tags. What it does not understand it passes over: the parser has accepted the text before.

use std::str::CharIndices;

use crate::{
    filters::{FILTERS, TESTS},
    functions::{known, unknown_argument},
};

/// An argument that nobody takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where it is: the byte in the text.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Every fault of `text`, in its order.
pub(crate) fn check(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut rest = 0;
    let mut raw = false;
    while let Some(at) = text[rest..].find('{').map(|found| rest + found) {
        let end = match text.as_bytes().get(at + 1) {
            Some(b'#') => text[at..].find("#}").map_or(text.len(), |found| at + found + 2),
            Some(b'%') if raw || is_tag(&text[at..], "raw") => {
                raw = !is_tag(&text[at..], "endraw");
                at + 2
            }
            Some(b'{' | b'%') if !raw => at + 2 + tag(text, at + 2, &mut faults),
            _ => at + 1,
        };
        rest = end;
    }
    faults
}

fn is_tag(text: &str, name: &str) -> bool {
    let body = text.trim_start_matches("{%").trim_start_matches('-').trim_start();
    body.strip_prefix(name).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Function,
    Filter,
    Test,
    /// A field, or the name of a component that is defined.
    Own,
}

/// What an open bracket belongs to; `None` if it is not a call of ours.
type Open = Option<(Kind, &'static str, &'static [&'static str])>;

/// Looks through the tag whose body begins at `start`; gives the body's length.
fn tag(text: &str, start: usize, faults: &mut Vec<Fault>) -> usize {
    let mut open: Vec<Open> = Vec::new();
    let mut kind = Kind::Function;
    let mut word: Option<(usize, &str, Kind)> = None;
    let mut chars = text[start..].char_indices();
    while let Some((at, c)) = chars.next() {
        let rest = &text[start + at..];
        if c.is_alphabetic() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..length];
            skip(&mut chars, at + length);
            match name {
                "is" => kind = Kind::Test,
                "not" => {}
                "component" => kind = Kind::Own,
                _ => word = Some((at, name, std::mem::replace(&mut kind, Kind::Function))),
            }
            continue;
        }
        match c {
            '"' | '\'' | '`' => skip(&mut chars, at + 1 + quoted(&rest[1..], c)),
            '(' => open.push(word.and_then(|(_, name, kind)| find(kind, name))),
            '[' | '{' => open.push(None),
            '}' | '%' | '-' if open.is_empty() && rest.trim_start_matches('-').starts_with(['}', '%']) => return at,
            ')' | ']' | '}' => drop(open.pop()),
            '=' if rest[1..].starts_with('=') => skip(&mut chars, at + 2),
            '=' => {
                if let (Some((at, name, _)), Some(Some((kind, of, known)))) = (word, open.last())
                    && !known.contains(&name)
                {
                    let of = match kind {
                        Kind::Function | Kind::Own => format!("{of}()"),
                        Kind::Filter => format!("filter {of}"),
                        Kind::Test => format!("test {of}"),
                    };
                    faults.push(Fault { at: start + at, message: unknown_argument(&of, name, known) });
                }
            }
            _ => {}
        }
        if !c.is_whitespace() {
            word = None;
            kind = match c {
                '|' => Kind::Filter,
                '.' => Kind::Own,
                _ => Kind::Function,
            };
        }
    }
    text.len() - start
}

fn find(kind: Kind, name: &str) -> Open {
    let list: Vec<(&'static str, &'static [&'static str])> = match kind {
        Kind::Function => known().collect(),
        Kind::Filter => FILTERS.to_vec(),
        Kind::Test => TESTS.to_vec(),
        Kind::Own => Vec::new(),
    };
    list.into_iter().find(|(known, _)| *known == name).map(|(name, arguments)| (kind, name, arguments))
}

/// Goes on at `to`.
fn skip(chars: &mut CharIndices<'_>, to: usize) {
    while chars.clone().next().is_some_and(|(at, _)| at < to) {
        chars.next();
    }
}

/// The length of a text up to its closing quote, that included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    fn faults(text: &str) -> Vec<(usize, String)> {
        super::check(text).into_iter().map(|f| (f.at, f.message.split(';').next().unwrap().to_owned())).collect()
    }

    #[test]
    fn arguments_that_nobody_takes_are_found_wherever_they_stand() {
        let cases = [
            ("{{ service(nam='x') }}", 11, "service() has no argument `nam`"),
            ("{% if false %}{{ key(pth='x') }}{% endif %}", 21, "key() has no argument `pth`"),
            ("{{ a | join(by=', ') }}", 12, "filter join has no argument `by`"),
            ("{%- for s in service(name='a', tg='b') -%}", 31, "service() has no argument `tg`"),
            ("{% if a is matching(pattern='x') %}", 20, "test matching has no argument `pattern`"),
            ("{% if a is not matching ( pattern='x') %}", 26, "test matching has no argument `pattern`"),
            ("{{ {'a': {'b': nodes(x=1)}} }}", 21, "nodes() has no argument `x`"),
            ("\u{e4}{{ 'it\\'s' ~ nodes(x=[1, (2)]) }}", 21, "nodes() has no argument `x`"),
            ("{{ 1 }}{# {{ nodes(x=1) }} #}{{ nodes(y=1) }}", 38, "nodes() has no argument `y`"),
            ("{% raw %}{{ nodes(x=1) }}{% endraw %}{{ nodes(y=1) }}", 46, "nodes() has no argument `y`"),
            ("{{ service(name=key(path='p', dflt='x')) }}", 30, "key() has no argument `dflt`"),
        ];
        for (text, at, message) in cases {
            assert_eq!(faults(text), [(at, message.to_owned())], "{text}");
        }
    }

    #[test]
    fn what_is_right_or_not_ours_is_passed_over() {
        let cases = [
            "{{ service(name='web', status=['any'], meta={'a': 'b'}) }}",
            "{{ x == nodes() }}{% set y = key(path='a=b(c=d)') %}",
            "{% component service(address, prt=80) %}{{ address }}{% endcomponent service %}",
            "{{ <server address=\"x\" prt={1}/> }}",
            "{{ 'service(x=1)' }} service(x=1) { nodes(x=1) }",
            "{{ a.service(x=1) }}{{ unclosed(x=1",
            "{{ range(end=3) }}{{ l | sort(attribute='x') | first }}",
        ];
        for text in cases {
            assert_eq!(faults(text), [], "{text}");
        }
    }
}
