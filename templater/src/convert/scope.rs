//! The variables that can be seen at a place, and what they are called in ours.

use super::kind::Kind;

/// The variables that can be seen, and the dot.
#[derive(Debug, Default)]
pub(super) struct Scope {
    blocks: Vec<Vec<Variable>>,
    outermost: Vec<Variable>,
}

#[derive(Clone, Debug)]
pub(super) struct Variable {
    /// As the original calls it; empty for the dot.
    theirs: String,
    pub(super) ours: String,
    pub(super) kind: Kind,
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

    pub(super) fn find(&self, name: &str) -> Option<&Variable> {
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
