//! Go's template actions, and the tokens in them.

/// One `{{ ... }}`.
pub(super) struct Action<'a> {
    pub(super) body: &'a str,
    /// What a comment says, if it is one.
    pub(super) comment: Option<&'a str>,
    pub(super) trim_left: bool,
    pub(super) trim_right: bool,
}

/// The action that `text` begins with, and what follows it.
pub(super) fn action(text: &str) -> Option<(Action<'_>, &str)> {
    let inside = text.strip_prefix("{{")?;
    let trim_left = inside.starts_with("- ") || inside.starts_with("-/*") || inside.starts_with("-\n");
    let inside = if trim_left { &inside[1..] } else { inside };
    let start = inside.trim_start();
    if let Some(comment) = start.strip_prefix("/*") {
        let (comment, after) = comment.split_once("*/")?;
        let (before, after) = after.split_once("}}")?;
        let action = Action { body: "", comment: Some(comment), trim_left, trim_right: before.trim().ends_with('-') };
        return Some((action, after));
    }
    let end = end_of(inside)?;
    let (body, after) = (&inside[..end], &inside[end + 2..]);
    let trim_right = body.ends_with(" -") || body.ends_with("\n-");
    let body = if trim_right { &body[..body.len() - 1] } else { body };
    Some((Action { body, comment: None, trim_left, trim_right }, after))
}

/// Where the `}}` is that no quotes are around.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '`' | '\'') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

/// A piece of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A function, a keyword.
    Word(String),
    /// `.A.B`; empty for the dot itself.
    Field(Vec<String>),
    /// `$name.A.B`; the name without its sign.
    Variable(String, Vec<String>),
    /// A text, unquoted.
    Text(String),
    Number(String),
    Open,
    /// `)`, with the fields that are taken of what it closes.
    Close(Vec<String>),
    Pipe,
    Comma,
    /// `:=`
    Define,
    /// `=`
    Assign,
}

/// The tokens of an action's body; or what is not understood.
pub(super) fn tokens(body: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = body.trim_start();
    while let Some(c) = rest.chars().next() {
        let (token, after) = match c {
            '"' => text(rest)?,
            '`' => {
                let (text, after) = rest[1..].split_once('`').ok_or("a text without its end")?;
                (Token::Text(text.to_owned()), after)
            }
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (path, after) = path(&rest[1..]);
                (Token::Close(path), after)
            }
            '|' => (Token::Pipe, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            ':' if rest.starts_with(":=") => (Token::Define, &rest[2..]),
            '=' => (Token::Assign, &rest[1..]),
            '$' => {
                let (name, after) = word(&rest[1..]);
                let (path, after) = path(after);
                (Token::Variable(name.to_owned(), path), after)
            }
            '.' => match path(rest) {
                (path, after) if path.is_empty() => (Token::Field(path), &after[1..]),
                (path, after) => (Token::Field(path), after),
            },
            c if c.is_ascii_digit() || c == '-' => {
                let end = rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |end| end + 1);
                (Token::Number(rest[..end].to_owned()), &rest[end..])
            }
            c if c.is_alphabetic() || c == '_' => {
                let (word, after) = word(rest);
                // scratch.Key, sprig's and the like.
                let (path, after) = path(after);
                let whole = std::iter::once(word.to_owned()).chain(path).collect::<Vec<_>>().join(".");
                (Token::Word(whole), after)
            }
            other => return Err(format!("{other:?} here")),
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// `.A.B` and what follows.
fn path(mut text: &str) -> (Vec<String>, &str) {
    let mut path = Vec::new();
    while let Some(inside) = text.strip_prefix('.') {
        let (name, after) = word(inside);
        if name.is_empty() {
            break;
        }
        path.push(name.to_owned());
        text = after;
    }
    (path, text)
}

/// A text in double quotes; its escapes are Go's, of which the usual ones are known.
fn text(rest: &str) -> Result<(Token, &str), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(text), &rest[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('"' | '\\' | '\'')) => text.push(c),
                other => return Err(format!("the escape \\{}", other.unwrap_or(' '))),
            },
            c => text.push(c),
        }
    }
    Err("a text without its end".into())
}
