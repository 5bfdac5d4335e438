//! The grammar of rules: HCL as Consul reads it, of which JSON is a part.
//!
//! ```text
//! rules  = members | "{" members "}"
//! members = { member [ "," ] }
//! member = name ( { name } object | ( "=" | ":" ) value )
//! name   = word | string
//! value  = string | word | object | list
//! object = "{" members "}"
//! list   = "[" [ value { "," value } [ "," ] ] "]"
//! ```
//!
//! `a "b" { … }` is short for `a = { b = { … } }`. This is the first version of HCL, to which lines mean nothing:
//! policies are often written in one, which the second version and its libraries refuse. Comments are `#`, `//` and
//! `/* */`.

use super::{
    MAX_BYTES, MAX_DEPTH,
    rules::{Fault, Problem},
};

/// A name and what stands behind it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) value: Value,
}

/// A value and where it begins, in bytes.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) at: usize,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    /// A number, a truth value, or a text that lacks its quotes.
    Word,
    Object(Vec<Member>),
    List(Vec<Value>),
}

/// The members of the object that the whole of `text` is.
pub(super) fn members(text: &str) -> Result<Vec<Member>, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault { at: 0, problem: Problem::TooLong { bytes: text.len() } });
    }
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.blank()?;
    let members = if reader.peek() == Some('{') { reader.object()? } else { reader.members()? };
    reader.blank()?;
    if reader.peek().is_some() { Err(reader.expected("the end")) } else { Ok(members) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expected(&self, wanted: &'static str) -> Fault {
        Fault { at: self.at, problem: Problem::expected(wanted, self.rest()) }
    }

    /// Goes over blanks and comments.
    fn blank(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let length = if rest.starts_with('#') || rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let problem = Problem::Unclosed("a comment");
                comment.find("*/").ok_or(Fault { at: self.at, problem })? + 4
            } else {
                rest.len() - rest.trim_start().len()
            };
            if length == 0 {
                return Ok(());
            }
            self.at += length;
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault { at: self.at, problem: Problem::TooDeep });
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    fn object(&mut self) -> Result<Vec<Member>, Fault> {
        let opened_at = self.at;
        self.deeper(|inner| {
            inner.take('{');
            let members = inner.members()?;
            if inner.take('}') {
                Ok(members)
            } else if inner.peek().is_none() {
                Err(Fault { at: opened_at, problem: Problem::Unclosed("a `{`") })
            } else {
                Err(inner.expected("a name or `}`"))
            }
        })
    }

    /// Up to where no more names are; blanks behind them included.
    fn members(&mut self) -> Result<Vec<Member>, Fault> {
        let mut members = vec![];
        loop {
            self.blank()?;
            if !self.peek().is_some_and(begins_name) {
                return Ok(members);
            }
            members.push(self.member()?);
            self.blank()?;
            self.take(',');
        }
    }

    fn member(&mut self) -> Result<Member, Fault> {
        let (at, name) = (self.at, self.name()?);
        self.blank()?;
        let value_at = self.at;
        let value = match self.peek() {
            Some('=' | ':') => {
                self.at += 1;
                self.blank()?;
                self.value()?
            }
            Some('{') => Value { at: value_at, content: Content::Object(self.object()?) },
            Some(next) if begins_name(next) => {
                Value { at: value_at, content: Content::Object(vec![self.deeper(Self::member)?]) }
            }
            _ => return Err(self.expected("`=`, `{` or another name")),
        };
        Ok(Member { at, name, value })
    }

    fn name(&mut self) -> Result<String, Fault> {
        if self.peek() == Some('"') { self.string() } else { Ok(self.word().to_owned()) }
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// The escapes are JSON's.
    fn string(&mut self) -> Result<String, Fault> {
        let rest = self.rest();
        let mut escaped = false;
        let closes = |byte: u8| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        };
        let unclosed = Fault { at: self.at, problem: Problem::Unclosed("a `\"`") };
        let length = rest.bytes().skip(1).position(closes).ok_or(unclosed)? + 2;
        let text = serde_json::from_str(&rest[..length]);
        let text = text.map_err(|_| Fault { at: self.at, problem: Problem::Text })?;
        self.at += length;
        Ok(text)
    }

    fn value(&mut self) -> Result<Value, Fault> {
        let at = self.at;
        let content = match self.peek() {
            Some('"') => Content::Text(self.string()?),
            Some('{') => Content::Object(self.object()?),
            Some('[') => Content::List(self.deeper(Self::list)?),
            Some(next) if is_of_word(next) => {
                self.word();
                Content::Word
            }
            _ => return Err(self.expected("a value")),
        };
        Ok(Value { at, content })
    }

    fn list(&mut self) -> Result<Vec<Value>, Fault> {
        self.take('[');
        let mut values = vec![];
        loop {
            self.blank()?;
            if self.take(']') {
                return Ok(values);
            }
            values.push(self.value()?);
            self.blank()?;
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }
}

fn begins_name(c: char) -> bool {
    c == '"' || is_of_word(c)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}
