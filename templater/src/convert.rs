//! consul-template's templates in ours. Pure.
//!
//! Its language is Go's; this knows the forms that configurations are made of. What it does not know it leaves as a call
//! of `throw()`: the result can be read and checked at once, and cannot be rendered by mistake.

mod expression;
mod functions;
mod kind;
mod lexer;
mod scope;

use std::fmt::Write as _;

use expression::Expression;
use kind::Kind;
use lexer::Token;
use scope::Scope;

use crate::{
    functions::Setting,
    render::{Sources, Template},
};

/// What came of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The same as a template of ours.
    pub text: String,
    /// What could not be converted, and what should be looked at.
    pub notes: Vec<Note>,
}

/// Something that a person must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// In the original, from 1 on.
    pub line: usize,
    /// What is the matter.
    pub message: String,
}

/// Converts a whole template.
pub fn convert(text: &str) -> Converted {
    let mut converter =
        Converter { out: String::new(), notes: Vec::new(), blocks: Vec::new(), scope: Scope::default() };
    let mut rest = text;
    let mut line = 1;
    while let Some(start) = rest.find("{{") {
        converter.out.push_str(&plain(&rest[..start]));
        line += rest[..start].matches('\n').count();
        let Some((action, after)) = lexer::action(&rest[start..]) else {
            converter.note(line, "an action without its end");
            break;
        };
        converter.action(&action, line);
        line += rest[start..rest.len() - after.len()].matches('\n').count();
        rest = after;
    }
    converter.out.push_str(&plain(rest));
    if !converter.blocks.is_empty() {
        converter.note(line, "a block without its end");
    }
    if converter.notes.is_empty()
        && let Err(report) = read(&converter.out)
    {
        converter.note(1, format!("the result cannot be read, so something here is not as it should be: {report}"));
    }
    Converted { text: converter.out, notes: converter.notes }
}

/// Whether `text` is a template of ours.
fn read(text: &str) -> Result<(), String> {
    let sources = Sources { main: "result".into(), files: [("result".to_owned(), text.to_owned())].into() };
    Template::parse(&sources, Setting::default()).map(drop).map_err(|error| error.report)
}

/// Text that would be a tag of ours, as text.
fn plain(text: &str) -> String {
    if text.contains("{%") || text.contains("{#") {
        format!("{{% raw %}}{text}{{% endraw %}}")
    } else {
        text.to_owned()
    }
}

/// What `end` ends.
enum Block {
    For,
    If,
    /// What cannot be converted has no end either.
    Lost,
}

struct Converter {
    out: String,
    notes: Vec<Note>,
    blocks: Vec<Block>,
    scope: Scope,
}

impl Converter {
    fn note(&mut self, line: usize, message: impl Into<String>) {
        self.notes.push(Note { line, message: message.into() });
    }

    fn tag(&mut self, action: &lexer::Action<'_>, body: &str) {
        let (left, right) = (if action.trim_left { "-" } else { "" }, if action.trim_right { "-" } else { "" });
        let _ = write!(self.out, "{{%{left} {body} {right}%}}");
    }

    fn action(&mut self, action: &lexer::Action<'_>, line: usize) {
        let (left, right) = (if action.trim_left { "-" } else { "" }, if action.trim_right { "-" } else { "" });
        if let Some(comment) = action.comment {
            let _ = write!(self.out, "{{#{left} {} {right}#}}", comment.trim());
            return;
        }
        let tokens = match lexer::tokens(action.body) {
            Ok(tokens) => tokens,
            Err(why) => return self.lost(action, line, &why),
        };
        let (word, args) = match tokens.split_first() {
            Some((Token::Word(word), args)) => (word.as_str(), args),
            _ => ("", &tokens[..]),
        };
        match word {
            "range" => self.range(action, args, line),
            "with" => self.with(action, args, line),
            "if" => {
                let condition = self.expression(args, line);
                self.blocks.push(Block::If);
                self.scope.enter(None);
                self.tag(action, &format!("if {}", condition.text));
            }
            "else" => match args.split_first() {
                Some((Token::Word(word), args)) if word == "if" => {
                    let condition = self.expression(args, line);
                    self.tag(action, &format!("elif {}", condition.text));
                }
                None if self.blocks.is_empty() => self.note(line, "an else of nothing"),
                None => self.tag(action, "else"),
                Some(_) => self.lost(action, line, "this form of else"),
            },
            "end" => match self.blocks.pop() {
                Some(block) => {
                    self.scope.leave();
                    match block {
                        Block::For => self.tag(action, "endfor"),
                        Block::If => self.tag(action, "endif"),
                        Block::Lost => {}
                    }
                }
                None => self.note(line, "an end of nothing"),
            },
            "break" | "continue" => self.tag(action, word),
            "define" | "block" => {
                self.lost(action, line, "named templates; make a component of it, or a file that is included");
                self.blocks.push(Block::Lost);
                self.scope.enter(None);
            }
            "template" | "executeTemplate" => {
                self.lost(action, line, "named templates; call the component, or include the file");
            }
            _ => match &tokens[..] {
                [Token::Variable(name, path), Token::Define | Token::Assign, value @ ..] if path.is_empty() => {
                    let value = self.expression(value, line);
                    let known = matches!(tokens[1], Token::Assign);
                    let name = self.scope.declare(name, value.kind, known);
                    // Set in a loop, a variable ends with the turn; a later turn must see what an earlier one assigned.
                    let set =
                        if known && self.blocks.iter().any(|b| matches!(b, Block::For)) { "set_global" } else { "set" };
                    self.tag(action, &format!("{set} {name} = {}", value.text));
                }
                _ => {
                    let value = self.expression(&tokens, line);
                    let _ = write!(self.out, "{{{{{left} {} {right}}}}}", value.text);
                }
            },
        }
    }

    fn lost(&mut self, action: &lexer::Action<'_>, line: usize, what: &str) {
        self.note(line, format!("not converted: {what}: {{{{ {} }}}}", action.body.trim()));
        let _ = write!(self.out, "{{{{ {} }}}}", expression::throw(action.body.trim()));
    }

    /// An expression; what is not known of it is noted and left as `throw()`.
    fn expression(&mut self, tokens: &[Token], line: usize) -> Expression {
        let (expression, remarks) = expression::convert(tokens, &self.scope);
        for remark in remarks {
            self.note(line, remark);
        }
        expression
    }

    fn range(&mut self, action: &lexer::Action<'_>, args: &[Token], line: usize) {
        let (names, list) = match args {
            [Token::Variable(one, _), Token::Define, list @ ..] => (vec![one.clone()], list),
            [Token::Variable(key, _), Token::Comma, Token::Variable(value, _), Token::Define, list @ ..] => {
                (vec![key.clone(), value.clone()], list)
            }
            list => (Vec::new(), list),
        };
        let list = self.expression(list, line);
        self.blocks.push(Block::For);
        let item = list.kind.item();
        match (&names[..], list.kind.is_map()) {
            ([key, value], true) => {
                let (key, value) = (self.scope.enter_named(key, Kind::Text), self.scope.also(value, item));
                self.tag(action, &format!("for {key}, {value} in {}", list.text));
            }
            ([at, value], false) => {
                let value = self.scope.enter_named(value, item);
                self.scope.alias(at, "loop.index0");
                self.tag(action, &format!("for {value} in {}", list.text));
            }
            ([value], false) => {
                let value = self.scope.enter_named(value, item);
                self.tag(action, &format!("for {value} in {}", list.text));
            }
            (_, true) => {
                let name = names.first().map_or_else(|| item.name().to_owned(), Clone::clone);
                let value = self.scope.enter_named(&name, item);
                self.tag(action, &format!("for _key, {value} in {}", list.text));
            }
            _ => {
                let value = self.scope.enter(Some(item));
                self.tag(action, &format!("for {value} in {}", list.text));
            }
        }
    }

    /// A variable, and a condition that it is something.
    fn with(&mut self, action: &lexer::Action<'_>, args: &[Token], line: usize) {
        let (name, value) = match args {
            [Token::Variable(name, _), Token::Define, value @ ..] => (Some(name.clone()), value),
            value => (None, value),
        };
        let value = self.expression(value, line);
        self.blocks.push(Block::If);
        let variable = match name {
            Some(name) => self.scope.enter_named(&name, value.kind),
            None => self.scope.enter(Some(value.kind)),
        };
        let left = if action.trim_left { "-" } else { "" };
        let _ = write!(self.out, "{{%{left} set {variable} = {} %}}", value.text);
        let right = if action.trim_right { "-" } else { "" };
        let _ = write!(self.out, "{{% if {variable} {right}%}}");
    }
}

#[cfg(test)]
mod tests;
