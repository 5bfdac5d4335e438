//! Expressions against fields: does each selector name one, can it be asked that, and is the value of its kind.

use regex::Regex;

use super::{
    MAX_PATTERNS,
    error::{Fault, Problem},
    literal,
    schema::{Kind, Schema, select},
    syntax::{Comparison, Expression, Literal, Operator, Relation, Selector},
};
use crate::pattern;

/// An expression that makes sense for rows of one schema.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// One of them; never empty.
    Any(Vec<Condition>),
    /// Each of them; never empty.
    All(Vec<Condition>),
    Not(Box<Condition>),
    Comparison {
        /// Never empty.
        path: Vec<String>,
        negated: bool,
        test: Test,
    },
}

/// A question to one value; its kind is known to fit.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Is(String),
    IsInt(i64),
    IsBool(bool),
    /// Of a text: the part; of texts: the element; of a map: the key.
    Has(String),
    Matches(Regex),
    IsEmpty,
}

/// `expression` as a condition on records of `schema`.
pub(super) fn check(expression: &Expression, schema: Schema) -> Result<Condition, Fault> {
    Checker { schema, patterns: 0 }.condition(expression)
}

struct Checker {
    schema: Schema,
    patterns: usize,
}

impl Checker {
    fn condition(&mut self, expression: &Expression) -> Result<Condition, Fault> {
        match expression {
            Expression::Or(parts) => self.each(parts).map(Condition::Any),
            Expression::And(parts) => self.each(parts).map(Condition::All),
            Expression::Not(inner) => Ok(Condition::Not(Box::new(self.condition(inner)?))),
            Expression::Comparison(comparison) => {
                let kind = select(&comparison.selector, self.schema)?;
                let test = self.test(comparison, kind)?;
                let path = comparison.selector.names.clone();
                Ok(Condition::Comparison { path, negated: comparison.operator.negated, test })
            }
        }
    }

    fn each(&mut self, parts: &[Expression]) -> Result<Vec<Condition>, Fault> {
        parts.iter().map(|part| self.condition(part)).collect()
    }

    fn test(&mut self, comparison: &Comparison, kind: Kind) -> Result<Test, Fault> {
        let selector = &comparison.selector;
        match (comparison.operator.relation, kind, &comparison.value) {
            (Relation::Equal, Kind::Text, Some(value)) => Ok(Test::Is(value.text.clone())),
            (Relation::Equal, Kind::Int, Some(value)) => {
                literal::int(&value.text).map(Test::IsInt).ok_or_else(|| unfit(selector, value, "a whole number"))
            }
            (Relation::Equal, Kind::Bool, Some(value)) => {
                literal::bool(&value.text).map(Test::IsBool).ok_or_else(|| unfit(selector, value, "true or false"))
            }
            (Relation::In, Kind::Text | Kind::Texts | Kind::Pairs | Kind::Keyed(_), Some(value)) => {
                Ok(Test::Has(value.text.clone()))
            }
            (Relation::Match, Kind::Text, Some(value)) => self.pattern(value).map(Test::Matches),
            (Relation::Empty, Kind::Texts | Kind::Pairs | Kind::Keyed(_) | Kind::Records(_), None) => Ok(Test::IsEmpty),
            _ => {
                let (operator, selector) = (name(comparison.operator), selector.to_string());
                let problem = Problem::Operator { operator, selector, operators: operators(kind) };
                Err(Fault::new(comparison.operator_at, problem))
            }
        }
    }

    fn pattern(&mut self, value: &Literal) -> Result<Regex, Fault> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(Fault::new(value.at, Problem::TooManyPatterns));
        }
        let problem = |why| Problem::Pattern { pattern: value.text.clone(), why };
        pattern::compile(&value.text).map_err(|why| Fault::new(value.at, problem(why)))
    }
}

fn unfit(selector: &Selector, value: &Literal, wanted: &'static str) -> Fault {
    let (selector, text) = (selector.to_string(), value.text.clone());
    Fault::new(value.at, Problem::Value { value: text, selector, wanted })
}

fn name(operator: Operator) -> &'static str {
    match (operator.relation, operator.negated) {
        (Relation::Equal, false) => "==",
        (Relation::Equal, true) => "!=",
        (Relation::In, false) => "in",
        (Relation::In, true) => "not in",
        (Relation::Match, false) => "matches",
        (Relation::Match, true) => "not matches",
        (Relation::Empty, false) => "is empty",
        (Relation::Empty, true) => "is not empty",
    }
}

/// What a field can be asked.
fn operators(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Text => &["==", "!=", "in", "not in", "contains", "not contains", "matches", "not matches"],
        Kind::Int | Kind::Bool => &["==", "!="],
        Kind::Texts | Kind::Pairs | Kind::Keyed(_) => {
            &["in", "not in", "contains", "not contains", "is empty", "is not empty"]
        }
        Kind::Records(_) => &["is empty", "is not empty"],
        Kind::Record(_) => &[],
    }
}
