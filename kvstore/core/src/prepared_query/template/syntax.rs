//! How the texts of a template are written: literals with `${...}` in them.

/// How deep texts and calls may be inside each other.
const MAX_DEPTH: usize = 16;

/// A text with places to fill in.
pub(super) type Text = Vec<Part>;

#[derive(Clone, Debug)]
pub(super) enum Part {
    Literal(String),
    Fill(Value),
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Full,
    Prefix,
    Suffix,
    Segment,
    Number(i64),
    Quoted(Text),
    Match(Box<Value>),
}

/// Reads a text of a template.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn parse(text: &str) -> Read<Text> {
    let parts = Reader { rest: text, depth: 0 }.text(false)?;
    match parts[..] {
        // As in Consul: a number by itself is no text.
        [Part::Fill(Value::Number(_))] => Err("it is a number, and a text is wanted".into()),
        _ => Ok(parts),
    }
}

/// Reads a text from left to right.
struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

type Read<T> = Result<T, String>;

impl Reader<'_> {
    /// Up to the end, or inside quotes up to the closing one.
    fn text(&mut self, quoted: bool) -> Read<Text> {
        let (mut parts, mut literal) = (Text::new(), String::new());
        while let Some(char) = self.rest.chars().next() {
            if self.eat("$${") {
                literal.push_str("${");
            } else if self.eat("${") {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Fill(self.value()?));
                self.expect("}")?;
            } else if quoted && char == '"' {
                break;
            } else if quoted && self.eat("\\") {
                literal.push(self.escaped()?);
            } else {
                literal.push(char);
                self.rest = &self.rest[char.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(parts)
    }

    fn escaped(&mut self) -> Read<char> {
        let escapes = [("n", '\n'), ("t", '\t'), ("\\", '\\'), ("\"", '"')];
        let found = escapes.into_iter().find(|(letter, _)| self.eat(letter));
        found.map(|(_, meant)| meant).ok_or_else(|| "after \\ comes n, t, \\ or \"".into())
    }

    fn value(&mut self) -> Read<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} values inside each other"));
        }
        self.blanks();
        let value = if self.eat("\"") {
            let text = self.text(true)?;
            self.expect("\"")?;
            Value::Quoted(text)
        } else if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            let number = self.word(|c| c.is_ascii_digit() || c == '-');
            Value::Number(number.parse().map_err(|_| format!("{number} is no number"))?)
        } else {
            self.named()?
        };
        self.blanks();
        self.depth -= 1;
        Ok(value)
    }

    /// A variable, or a call of `match`.
    fn named(&mut self) -> Read<Value> {
        let name = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'));
        Ok(match name {
            "name.full" => Value::Full,
            "name.prefix" => Value::Prefix,
            "name.suffix" => Value::Suffix,
            "agent.segment" => Value::Segment,
            "match" => {
                self.blanks();
                self.expect("(")?;
                let number = self.value()?;
                self.expect(")")?;
                Value::Match(Box::new(number))
            }
            "" => return Err(format!("a value is wanted {}", self.place())),
            other => {
                let known = "name.full, name.prefix, name.suffix, agent.segment and match(N)";
                return Err(format!("unknown variable accessed: {other}; there are {known}"));
            }
        })
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Read<()> {
        if self.eat(text) { Ok(()) } else { Err(format!("{text} is wanted {}", self.place())) }
    }

    fn place(&self) -> String {
        match self.rest.chars().take(20).collect::<String>() {
            rest if rest.is_empty() => "at the end".into(),
            rest => format!("before {rest:?}"),
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

impl<'a> Reader<'a> {
    fn word(&mut self, takes: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !takes(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }
}
