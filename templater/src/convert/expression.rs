//! Pipelines and operands in ours.

use super::{functions, kind::Kind, lexer::Token, scope::Scope};

/// A converted expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) kind: Kind,
    /// Whether a filter or an operator may follow without brackets.
    pub(super) atom: bool,
    /// What a text that is written out says.
    pub(super) literal: Option<String>,
}

impl Expression {
    pub(super) fn new(text: impl Into<String>, kind: Kind) -> Self {
        Self { text: text.into(), kind, atom: true, literal: None }
    }

    /// With operators in it.
    pub(super) fn compound(text: impl Into<String>) -> Self {
        Self { atom: false, ..Self::new(text, Kind::Unknown) }
    }

    pub(super) fn text(text: &str) -> Self {
        Self { literal: Some(text.to_owned()), ..Self::new(quoted(text), Kind::Text) }
    }

    /// As a part of a larger one.
    pub(super) fn part(&self) -> String {
        if self.atom { self.text.clone() } else { format!("({})", self.text) }
    }

    /// Whether it is a variable with its fields, of which more fields can be taken.
    fn is_path(&self) -> bool {
        self.text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
    }

    fn fields(mut self, path: &[String], remarks: &mut Vec<String>) -> Self {
        for name in path {
            let (known, kind) = self.kind.field(name);
            let text = match known {
                "" => self.text.clone(),
                "?" if self.is_path() => {
                    if !matches!(self.kind, Kind::Unknown | Kind::Map) {
                        remarks.push(format!("the field .{name} is not known; it stays as it is"));
                    }
                    format!("{}.{name}", self.text)
                }
                "?" => format!("({})[{}]", self.text, quoted(name)),
                known if self.is_path() => format!("{}.{known}", self.text),
                known => {
                    known.split('.').fold(format!("({})", self.text), |text, part| format!("{text}[{}]", quoted(part)))
                }
            };
            self = Self::new(text, kind);
        }
        self
    }
}

/// `text` as a literal of ours.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t"))
}

/// What stands for something that was not converted.
pub(super) fn throw(what: &str) -> String {
    format!("throw(message={})", quoted(&format!("not converted: {what}")))
}

/// Converts a pipeline; also gives what is to be said about it.
pub(super) fn convert(tokens: &[Token], scope: &Scope) -> (Expression, Vec<String>) {
    let mut reader = Reader { tokens, at: 0, scope, remarks: Vec::new() };
    let mut expression = reader.pipeline();
    expression.text = bare(expression.text);
    if reader.at < tokens.len() {
        reader.remarks.push("not converted: what follows a whole expression".into());
    }
    (expression, reader.remarks)
}

/// Without brackets around the whole.
fn bare(text: String) -> String {
    let Some(inside) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else { return text };
    let (mut depth, mut quote, mut escaped) = (0_usize, false, false);
    for c in inside.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote => escaped = true,
            '"' => quote = !quote,
            '(' if !quote => depth += 1,
            ')' if !quote => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return text, // the first bracket is closed before the end
            },
            _ => {}
        }
    }
    inside.to_owned()
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    scope: &'a Scope,
    remarks: Vec<String>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&Token> {
        let token = self.tokens.get(self.at);
        self.at += usize::from(token.is_some());
        token
    }

    fn pipeline(&mut self) -> Expression {
        let mut value = self.command(None);
        while self.tokens.get(self.at) == Some(&Token::Pipe) {
            self.at += 1;
            value = self.command(Some(value));
        }
        value
    }

    /// A function with its arguments, of which a piped value is the last; or one operand.
    fn command(&mut self, piped: Option<Expression>) -> Expression {
        if let Some(Token::Word(name)) = self.tokens.get(self.at) {
            let name = name.clone();
            if !matches!(name.as_str(), "true" | "false" | "nil") {
                self.at += 1;
                let mut arguments = Vec::new();
                while self
                    .tokens
                    .get(self.at)
                    .is_some_and(|t| !matches!(t, Token::Pipe | Token::Close(_) | Token::Comma))
                {
                    arguments.push(self.operand());
                }
                arguments.extend(piped);
                return functions::call(&name, &arguments, &mut self.remarks);
            }
        }
        // .Tags.Contains "x" is a method.
        if let Some(Token::Field(path) | Token::Variable(_, path)) = self.tokens.get(self.at)
            && path.last().is_some_and(|method| method == "Contains")
        {
            let list = self.operand_without_last();
            let wanted = self.operand();
            return Expression::compound(format!("{} in {}", wanted.part(), list.part()));
        }
        self.operand()
    }

    fn operand_without_last(&mut self) -> Expression {
        let token = self.next().cloned();
        let cut = |mut path: Vec<String>| {
            path.pop();
            path
        };
        match token {
            Some(Token::Field(path)) => self.dot(&cut(path)),
            Some(Token::Variable(name, path)) => self.variable(&name, &cut(path)),
            _ => unreachable!("it was looked at"),
        }
    }

    fn operand(&mut self) -> Expression {
        match self.next().cloned() {
            Some(Token::Text(text)) => Expression::text(&text),
            Some(Token::Number(number)) => Expression::new(number, Kind::Text),
            Some(Token::Field(path)) => self.dot(&path),
            Some(Token::Variable(name, path)) => self.variable(&name, &path),
            Some(Token::Open) => {
                let inside = self.pipeline();
                match self.next().cloned() {
                    Some(Token::Close(path)) => inside.fields(&path, &mut self.remarks),
                    _ => self.lost("a bracket without its end"),
                }
            }
            Some(Token::Word(word)) => match word.as_str() {
                "nil" => Expression::new("none", Kind::Unknown),
                "true" | "false" => Expression::new(word, Kind::Text),
                // A function without arguments.
                _ => functions::call(&word, &[], &mut self.remarks),
            },
            _ => self.lost("this form"),
        }
    }

    fn dot(&mut self, path: &[String]) -> Expression {
        match self.scope.find("") {
            Some(dot) => Expression::new(dot.ours.clone(), dot.kind).fields(path, &mut self.remarks),
            None => self.lost("the dot outside of range and with"),
        }
    }

    fn variable(&mut self, name: &str, path: &[String]) -> Expression {
        match self.scope.find(name) {
            Some(found) if !name.is_empty() => {
                Expression::new(found.ours.clone(), found.kind).fields(path, &mut self.remarks)
            }
            _ => self.lost(&format!("the variable ${name}")),
        }
    }

    fn lost(&mut self, what: &str) -> Expression {
        self.remarks.push(format!("not converted: {what}"));
        Expression::new(throw(what), Kind::Unknown)
    }
}
