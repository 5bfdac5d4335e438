//! Filter expressions, `?filter=` of the API: which rows of an answer a client wants.
//!
//! An expression is read (`syntax`), checked against the fields of the rows it is for (`check`), and only then asked
//! of rows ([`Record`]): what can be wrong with it is told before any row is looked at, and asking cannot fail.
//!
//! ```
//! use kvstore_core::{filter::{self, Filter, NodeRecord}, row::Node};
//!
//! let node = Node { name: "db-1".into(), id: String::new(), address: "10.0.0.1".into(), tagged_addresses: None, meta: None };
//! let filter = Filter::parse("Node matches `^db-` and Meta.retired != yes", filter::NODE).unwrap();
//! assert!(filter.takes(&NodeRecord { node: &node, datacenter: "dc1" }));
//! ```
//!
//! The language is that of go-bexpr 0.1.2, which Consul uses. `or` binds less than `and`, `and` less than `not`. A
//! comparison below a list of records holds if it holds for one of them. What a map has no key for equals nothing, is
//! in nothing and matches nothing (Consul's own `matches` takes it for a match, which go-bexpr corrected later). Beside
//! that, `"\""` is read here and refused there.

mod check;
mod error;
mod literal;
mod record;
mod schema;
mod syntax;

#[cfg(test)]
mod tests;

pub use error::{FilterError, Problem};
pub use record::{CatalogRecord, CheckRecord, EntryRecord, NodeRecord, Record, ServiceRecord, Value};
pub use schema::{CATALOG, CHECK, ENTRY, Kind, NODE, SERVICE, Schema};

use check::{Condition, Test};

/// The longest expression, in bytes: hundreds of names or UUIDs fit.
pub const MAX_BYTES: usize = 16 * 1024;

/// So many `not` and `(` may stand inside each other.
pub const MAX_DEPTH: usize = 64;

/// So many regular expressions may be in one expression; each costs memory once compiled.
pub const MAX_PATTERNS: usize = 16;

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Filter {
    /// None: everything is wanted.
    wanted: Option<Condition>,
}

impl Filter {
    /// The expression `text` about rows with the fields of `schema`; an empty one wants every row.
    ///
    /// # Errors
    /// [`FilterError`] says where `text` is wrong and what is possible there.
    pub fn parse(text: &str, schema: Schema) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self { wanted: None });
        }
        let parsed = syntax::expression(text).and_then(|expression| check::check(&expression, schema));
        parsed.map(|wanted| Self { wanted: Some(wanted) }).map_err(|fault| FilterError::new(text, fault))
    }

    /// Whether the expression is anything but empty.
    pub fn narrows(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether a field called `name` may decide what is taken.
    pub fn reads(&self, name: &str) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.reads(name))
    }

    /// Whether `record`, which must be of the schema given to [`Filter::parse`], is wanted.
    pub fn takes(&self, record: &dyn Record) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.holds(record))
    }
}

impl Condition {
    fn holds(&self, record: &dyn Record) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Self::All(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Not(inner) => !inner.holds(record),
            Self::Comparison { path, negated, test } => compare(record, path, *negated, test),
        }
    }

    fn reads(&self, name: &str) -> bool {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().any(|part| part.reads(name)),
            Self::Not(inner) => inner.reads(name),
            Self::Comparison { path, .. } => path.iter().any(|step| step == name),
        }
    }
}

/// Whether what `path` leads to passes `test`, or does not if `negated`.
fn compare(record: &dyn Record, path: &[String], negated: bool, test: &Test) -> bool {
    let Some((field, rest)) = path.split_first() else { return false };
    let value = record.value(field);
    let Some((key, below)) = rest.split_first() else { return test.passes(&value) != negated };
    match value {
        Value::Pairs(pairs) => match pairs.and_then(|pairs| pairs.get(key)) {
            Some(text) => test.passes(&Value::Text(text)) != negated,
            None => negated,
        },
        Value::Addresses(addresses) => match addresses.get(key) {
            Some(address) => compare(address, below, negated, test),
            None => negated,
        },
        Value::Record(record) => compare(&*record, rest, negated, test),
        Value::Records(records) => records.iter().any(|record| compare(&**record, rest, negated, test)),
        // The schema has nothing below these, so that no path goes on here.
        Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Texts(_) => false,
    }
}

impl Test {
    fn passes(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Is(wanted), Value::Text(text)) => wanted == text,
            (Self::Has(part), Value::Text(text)) => text.contains(part.as_str()),
            (Self::Matches(pattern), Value::Text(text)) => pattern.is_match(text),
            (Self::IsInt(wanted), Value::Int(number)) => wanted == number,
            (Self::IsBool(wanted), Value::Bool(flag)) => wanted == flag,
            (Self::Has(wanted), Value::Texts(texts)) => texts.contains(wanted),
            (Self::Has(key), Value::Pairs(pairs)) => pairs.is_some_and(|pairs| pairs.contains_key(key)),
            (Self::Has(key), Value::Addresses(addresses)) => addresses.contains_key(key),
            (Self::IsEmpty, Value::Texts(texts)) => texts.is_empty(),
            (Self::IsEmpty, Value::Pairs(pairs)) => pairs.is_none_or(std::collections::BTreeMap::is_empty),
            (Self::IsEmpty, Value::Addresses(addresses)) => addresses.is_empty(),
            (Self::IsEmpty, Value::Records(records)) => records.is_empty(),
            // `check` lets no other pair pass.
            _ => false,
        }
    }
}
