//! Pipelines, operands and variables: what they are called, and what is known of them.

use super::{functions, lexer::Token};

/// What a value is, as far as that decides how its fields are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Unknown,
    Text,
    Instances,
    Instance,
    Services,
    Service,
    Nodes,
    Node,
    /// A node with its services.
    NodeWithServices,
    NodeServices,
    NodeService,
    Checks,
    Check,
    Pairs,
    Pair,
    /// Instances by tag or metadata.
    InstancesBy,
    /// Services by tag.
    ServicesBy,
    /// Keys below keys.
    PairsBy,
    Map,
}

impl Kind {
    /// What the items of such a list or map are.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Instances => Self::Instance,
            Self::InstancesBy => Self::Instances,
            Self::Services => Self::Service,
            Self::ServicesBy => Self::Services,
            Self::Nodes => Self::Node,
            Self::NodeServices => Self::NodeService,
            Self::Checks => Self::Check,
            Self::Pairs => Self::Pair,
            Self::PairsBy => Self::Map,
            _ => Self::Unknown,
        }
    }

    pub(super) fn is_map(self) -> bool {
        matches!(self, Self::InstancesBy | Self::ServicesBy | Self::PairsBy | Self::Map)
    }

    /// A name for a variable of this kind.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instance | Self::NodeService => "instance",
            Self::Instances => "instances",
            Self::Service => "service",
            Self::Services => "services",
            Self::Node | Self::NodeWithServices => "node",
            Self::Check => "check",
            Self::Pair => "pair",
            Self::Pairs => "pairs",
            _ => "item",
        }
    }

    /// How a field is called, and of what kind it is.
    fn field(self, name: &str) -> (&'static str, Self) {
        use Kind::{
            Check, Checks, Instance, Node, NodeService, NodeServices, NodeWithServices, Pair, Service, Text, Unknown,
        };
        match (self, name) {
            (Instance, "Node") => ("node.name", Text),
            (Instance, "NodeID") => ("node.id", Text),
            (Instance, "NodeAddress") => ("node.address", Text),
            (Instance, "NodeDatacenter") => ("node.dc", Text),
            (Instance, "NodeMeta") => ("node.meta", Kind::Map),
            (Instance, "NodeTaggedAddresses") => ("node.tagged_addresses", Kind::Map),
            (Instance, "ServiceMeta") | (NodeService | Node, "Meta") => ("meta", Kind::Map),
            (Instance, "ServiceTaggedAddresses") | (Node, "TaggedAddresses") => ("tagged_addresses", Kind::Map),
            (Instance, "Checks") => ("checks", Checks),
            (Instance, "Weights") => ("weights", Unknown),
            (Instance | NodeService | Node, "ID") | (Check, "CheckID") => ("id", Text),
            (Instance | Service | Check, "Name") | (Node, "Node") | (NodeService, "Service") => ("name", Text),
            (Instance | NodeService | Node, "Address") => ("address", Text),
            (Instance | NodeService, "Port") => ("port", Text),
            (Instance | Service | NodeService, "Tags") => ("tags", Unknown),
            (Instance | Check, "Status") => ("status", Text),
            (Node, "Datacenter") => ("dc", Text),
            (NodeWithServices, "Node") => ("", Node),
            (NodeWithServices, "Services") => ("services", NodeServices),
            (Check, "Output") => ("output", Text),
            (Check, "Notes") => ("notes", Text),
            (Check, "Type") => ("kind", Text),
            (Check, "ServiceID") => ("service_id", Text),
            (Pair, "Key") => ("key", Text),
            (Pair, "Path") => ("path", Text),
            (Pair, "Value") => ("value", Text),
            (Pair, "Flags") => ("flags", Text),
            (Pair, "CreateIndex") => ("create_index", Text),
            (Pair, "ModifyIndex") => ("modify_index", Text),
            (Pair, "LockIndex") => ("lock_index", Text),
            (Pair, "Session") => ("session", Text),
            (Unknown, "Passing") => ("passing", Text),
            (Unknown, "Warning") => ("warning", Text),
            _ => ("?", Unknown),
        }
    }
}

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

/// The variables that can be seen, and the dot.
#[derive(Debug, Default)]
pub(super) struct Scope {
    blocks: Vec<Vec<Variable>>,
    outermost: Vec<Variable>,
}

#[derive(Clone, Debug)]
struct Variable {
    /// As the original calls it; empty for the dot.
    theirs: String,
    ours: String,
    kind: Kind,
}

impl Scope {
    /// A block; with a dot of its own if there is a kind. Gives our name of the dot.
    pub(super) fn enter(&mut self, dot: Option<Kind>) -> String {
        self.blocks.push(Vec::new());
        match dot {
            Some(kind) => self.add("", kind.name(), kind),
            None => String::new(),
        }
    }

    /// A block whose dot has a name too.
    pub(super) fn enter_named(&mut self, name: &str, kind: Kind) -> String {
        self.blocks.push(Vec::new());
        let ours = self.add(name, name, kind);
        self.here().push(Variable { theirs: String::new(), ours: ours.clone(), kind });
        ours
    }

    /// One more variable of the block, which is its dot.
    pub(super) fn also(&mut self, name: &str, kind: Kind) -> String {
        let ours = self.add(name, name, kind);
        self.here().push(Variable { theirs: String::new(), ours: ours.clone(), kind });
        ours
    }

    /// `name` is this expression.
    pub(super) fn alias(&mut self, name: &str, ours: &str) {
        let variable = Variable { theirs: name.to_owned(), ours: ours.to_owned(), kind: Kind::Text };
        self.here().push(variable);
    }

    pub(super) fn leave(&mut self) {
        self.blocks.pop();
    }

    /// A variable that is set; the one there is, if it is only assigned anew.
    pub(super) fn declare(&mut self, name: &str, kind: Kind, assigned: bool) -> String {
        match self.find(name) {
            Some(known) if assigned => known.ours.clone(),
            _ => {
                let ours = snake(name);
                self.here().push(Variable { theirs: name.to_owned(), ours: ours.clone(), kind });
                ours
            }
        }
    }

    fn here(&mut self) -> &mut Vec<Variable> {
        self.blocks.last_mut().unwrap_or(&mut self.outermost)
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Variable> {
        self.outermost.iter().chain(self.blocks.iter().flatten())
    }

    fn find(&self, name: &str) -> Option<&Variable> {
        self.all().rev().find(|variable| variable.theirs == name)
    }

    /// A name that hides none of an outer block, which the inner one may need.
    fn add(&mut self, theirs: &str, wanted: &str, kind: Kind) -> String {
        let wanted = snake(wanted);
        let taken = |name: &str| self.all().any(|variable| variable.ours == name) || name == "loop";
        let ours = if taken(&wanted) {
            let numbered = (2..=self.all().count() + 2).map(|n| format!("{wanted}{n}"));
            numbered.into_iter().find(|name| !taken(name)).expect("one more number than variables")
        } else {
            wanted
        };
        self.here().push(Variable { theirs: theirs.to_owned(), ours: ours.clone(), kind });
        ours
    }
}

/// `nodeName` as `node_name`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
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
