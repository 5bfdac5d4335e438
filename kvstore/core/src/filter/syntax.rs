//! The grammar: from text to expressions whose names nobody has looked up yet.
//!
//! ```text
//! or         = and { blank "or" blank and }
//! and        = term { blank "and" blank term }
//! term       = "not" blank term | "(" or ")" | comparison
//! comparison = selector ( "==" | "!=" | [ "not" ] "contains" | [ "not" ] "matches" ) value
//!            | selector "is" [ "not" ] "empty"
//!            | value [ "not" ] "in" selector
//! selector   = name { "." name | "[" string "]" }
//! value      = selector | number | string
//! ```
//!
//! No word is reserved: `not in Tags` asks for the tag "not". Blanks surround operators that are words.

use std::fmt;

use winnow::{
    ModalResult, Parser,
    combinator::{alt, cut_err, eof, opt, peek, repeat},
    error::{ErrMode, ParserError},
    stream::{LocatingSlice, Location, Stateful},
    token::{any, literal, one_of, take_till, take_while},
};

use super::{
    MAX_BYTES, MAX_DEPTH,
    error::{Fault, Problem, Reason},
    literal::unescape,
};

#[derive(Debug)]
pub(super) enum Expression {
    /// One or more.
    Or(Vec<Expression>),
    /// One or more.
    And(Vec<Expression>),
    Not(Box<Expression>),
    Comparison(Comparison),
}

#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) selector: Selector,
    pub(super) operator: Operator,
    pub(super) operator_at: usize,
    /// None for `is empty` only.
    pub(super) value: Option<Literal>,
}

/// The way to a field.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) at: usize,
    /// One or more.
    pub(super) names: Vec<String>,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("."))
    }
}

/// A value as written, of no kind yet.
#[derive(Debug)]
pub(super) struct Literal {
    pub(super) at: usize,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) relation: Relation,
    pub(super) negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    /// `in`, and `contains`, which is the same the other way round.
    In,
    Match,
    Empty,
}

/// The text, and how deep the parser is in it.
type Input<'a> = Stateful<LocatingSlice<&'a str>, usize>;

type Parsed<O> = ModalResult<O, Fault>;

/// The expression that the whole of `text` is.
pub(super) fn expression(text: &str) -> Result<Expression, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::new(0, Problem::TooLong { bytes: text.len() }));
    }
    let mut input = Input { input: LocatingSlice::new(text), state: 0 };
    let whole = (opt(blank), disjunction, opt(blank), expect("\"and\", \"or\" or the end", eof));
    let parsed: Parsed<_> = whole.map(|(_, expression, ..)| expression).parse_next(&mut input);
    // The text is all there is, so that nothing is ever incomplete.
    parsed.map_err(|error| error.into_inner().unwrap_or_else(|_| Fault::expected(0, "an expression")))
}

impl<'a> ParserError<Input<'a>> for Fault {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self { at: input.current_token_start(), reason: Reason::Expected("something else") }
    }

    /// Of two ways to read the text, the one that came farther is what was meant.
    fn or(self, other: Self) -> Self {
        if self.at > other.at { self } else { other }
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

/// `parser`; where it fails without having begun, `wanted` is what was expected.
fn expect<'a, O>(
    wanted: &'static str,
    mut parser: impl Parser<Input<'a>, O, ErrMode<Fault>>,
) -> impl Parser<Input<'a>, O, ErrMode<Fault>> {
    move |input: &mut Input<'a>| {
        let at = input.current_token_start();
        parser.parse_next(input).map_err(|error| match error {
            ErrMode::Backtrack(fault) if fault.at <= at => ErrMode::Backtrack(Fault::expected(at, wanted)),
            other => other,
        })
    }
}

/// Runs `parser` one level deeper.
fn deeper<'a, O>(mut parser: impl Parser<Input<'a>, O, ErrMode<Fault>>) -> impl Parser<Input<'a>, O, ErrMode<Fault>> {
    move |input: &mut Input<'a>| {
        if input.state == MAX_DEPTH {
            return Err(ErrMode::Cut(Fault::new(input.current_token_start(), Problem::TooDeep)));
        }
        input.state += 1;
        let result = parser.parse_next(input);
        input.state -= 1;
        result
    }
}

fn blank(input: &mut Input<'_>) -> Parsed<()> {
    expect("a blank", take_while(1.., [' ', '\t', '\r', '\n']).void()).parse_next(input)
}

fn disjunction(input: &mut Input<'_>) -> Parsed<Expression> {
    joined("or", conjunction, input).map(|mut parts| match parts.len() {
        1 => parts.remove(0),
        _ => Expression::Or(parts),
    })
}

fn conjunction(input: &mut Input<'_>) -> Parsed<Expression> {
    joined("and", term, input).map(|mut parts| match parts.len() {
        1 => parts.remove(0),
        _ => Expression::And(parts),
    })
}

/// One part, or several with `word` between them.
fn joined<'a>(
    word: &'static str,
    mut part: fn(&mut Input<'a>) -> Parsed<Expression>,
    input: &mut Input<'a>,
) -> Parsed<Vec<Expression>> {
    let mut parts = vec![part.parse_next(input)?];
    // Nothing but an expression can follow the word, so its faults are final.
    while opt((blank, keyword(word))).parse_next(input)?.is_some() {
        cut_err(blank).parse_next(input)?;
        parts.push(cut_err(part).parse_next(input)?);
    }
    Ok(parts)
}

/// `word`, and not only the beginning of a longer one.
fn keyword<'a>(word: &'static str) -> impl Parser<Input<'a>, (), ErrMode<Fault>> {
    name.verify(move |found: &str| found == word).void()
}

fn term(input: &mut Input<'_>) -> Parsed<Expression> {
    alt((negation, group, comparison)).parse_next(input)
}

/// Fails without a final word, since `not` may be a value: `not in Tags`.
fn negation(input: &mut Input<'_>) -> Parsed<Expression> {
    let inner = (keyword("not"), blank, deeper(term)).map(|(.., inner)| inner).parse_next(input)?;
    Ok(Expression::Not(Box::new(inner)))
}

fn group(input: &mut Input<'_>) -> Parsed<Expression> {
    let inside = cut_err((opt(blank), disjunction, opt(blank), expect("\"and\", \"or\" or \")\"", literal(")"))));
    (literal("("), deeper(inside)).map(|(_, (_, inside, ..))| inside).parse_next(input)
}

/// What stands left or right of an operator.
enum Operand {
    /// A selector, or a value of this spelling without quotes.
    Selector(Selector),
    Literal(Literal),
}

impl Operand {
    fn into_value(self) -> Literal {
        match self {
            Self::Selector(selector) => Literal { at: selector.at, text: selector.to_string() },
            Self::Literal(literal) => literal,
        }
    }
}

/// What an operator wants on its right.
#[derive(Clone, Copy)]
enum Right {
    Value,
    Selector,
    Nothing,
}

/// An operator as found.
struct Asked {
    at: usize,
    operator: Operator,
    right: Right,
}

fn comparison(input: &mut Input<'_>) -> Parsed<Expression> {
    let left = expect("a selector, a value, \"not\" or \"(\"", operand).parse_next(input)?;
    let Asked { at: operator_at, operator, right } = match left {
        Operand::Selector(_) => alt((worded, symbol)).parse_next(input),
        Operand::Literal(_) => membership.parse_next(input),
    }?;
    let (selector, value) = match (left, right) {
        (Operand::Selector(selector), Right::Nothing) => (selector, None),
        (Operand::Selector(selector), Right::Value) => {
            (selector, Some(cut_err(expect("a value", operand)).parse_next(input)?.into_value()))
        }
        (value, _) => (cut_err(expect("a selector", selector)).parse_next(input)?, Some(value.into_value())),
    };
    Ok(Expression::Comparison(Comparison { selector, operator, operator_at, value }))
}

const OPERATORS: &str = "an operator: ==, !=, is, in, contains, matches or not";

fn symbol(input: &mut Input<'_>) -> Parsed<Asked> {
    let sign = alt((literal("==").value(false), literal("!=").value(true)));
    let (_, (negated, span), _) = (opt(blank), expect(OPERATORS, sign).with_span(), opt(blank)).parse_next(input)?;
    Ok(Asked { at: span.start, operator: Operator { relation: Relation::Equal, negated }, right: Right::Value })
}

/// An operator that is a word or several.
fn worded(input: &mut Input<'_>) -> Parsed<Asked> {
    let ((), (first, span)) = (blank, expect(OPERATORS, name).with_span()).parse_next(input)?;
    let at = span.start;
    let (negated, (relation, right)) = match first {
        "is" => {
            let not = opt((blank, keyword("not"))).map(|not| not.is_some());
            let empty = (not, blank, expect("\"empty\" or \"not empty\"", keyword("empty")));
            let (negated, ..) = cut_err(empty).parse_next(input)?;
            let operator = Operator { relation: Relation::Empty, negated };
            return Ok(Asked { at, operator, right: Right::Nothing });
        }
        "not" => {
            let related = name.verify_map(related);
            let ((), found) = (blank, expect("in, contains or matches", related)).parse_next(input)?;
            (true, found)
        }
        word => (false, related(word).ok_or_else(|| ErrMode::Backtrack(Fault::expected(at, OPERATORS)))?),
    };
    cut_err(blank).parse_next(input)?;
    Ok(Asked { at, operator: Operator { relation, negated }, right })
}

fn related(word: &str) -> Option<(Relation, Right)> {
    match word {
        "in" => Some((Relation::In, Right::Selector)),
        "contains" => Some((Relation::In, Right::Value)),
        "matches" => Some((Relation::Match, Right::Value)),
        _ => None,
    }
}

/// `in` or `not in`: all that can follow what is no selector.
fn membership(input: &mut Input<'_>) -> Parsed<Asked> {
    let not = opt((keyword("not"), blank)).map(|not| not.is_some());
    let words = (not, expect("\"in\" or \"not in\"", keyword("in"))).with_span();
    let ((), ((negated, ()), span), ()) = (blank, words, cut_err(blank)).parse_next(input)?;
    Ok(Asked { at: span.start, operator: Operator { relation: Relation::In, negated }, right: Right::Selector })
}

fn operand(input: &mut Input<'_>) -> Parsed<Operand> {
    let literal = alt((number.map(ToOwned::to_owned), string)).with_span();
    let literal = literal.map(|(text, span)| Operand::Literal(Literal { at: span.start, text }));
    alt((selector.map(Operand::Selector), literal)).parse_next(input)
}

fn selector(input: &mut Input<'_>) -> Parsed<Selector> {
    let (first, span) = name.with_span().parse_next(input)?;
    let mut names = vec![first.to_owned()];
    loop {
        if opt(literal(".")).parse_next(input)?.is_some() {
            names.push(cut_err(expect("a name", name)).parse_next(input)?.to_owned());
        } else if opt(literal("[")).parse_next(input)?.is_some() {
            let index = (opt(blank), expect("a name in quotes", string), opt(blank), expect("\"]\"", literal("]")));
            names.push(cut_err(index).parse_next(input)?.1);
        } else {
            return Ok(Selector { at: span.start, names });
        }
    }
}

fn name<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    let letter = one_of(|c: char| c.is_ascii_alphabetic());
    let others = take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == '_');
    (letter, others).take().parse_next(input)
}

fn number<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    let digits = |least: usize| take_while(least.., |c: char| c.is_ascii_digit());
    let whole = alt((literal("0").void(), (one_of('1'..='9'), digits(0)).void()));
    let fraction = (literal("."), expect("a digit", digits(1)));
    let number = (opt(literal("-")), expect("a digit", whole), opt(fraction)).take().parse_next(input)?;
    let after = peek(alt((blank, literal(")").void(), eof.void())));
    cut_err(expect("a blank, \")\" or the end after a number", after)).parse_next(input)?;
    Ok(number)
}

fn string(input: &mut Input<'_>) -> Parsed<String> {
    let quote = one_of(['"', '`']).parse_next(input)?;
    let at = input.current_token_start();
    if quote == '`' {
        let raw = (take_till(0.., '`'), expect("a closing backquote", literal("`")));
        // As in Go, where a source file's line ends do not matter.
        return cut_err(raw).map(|(raw, _): (&str, _)| raw.replace('\r', "")).parse_next(input);
    }
    let piece = alt((take_till(1.., ['"', '\\']).void(), (literal("\\"), any).void()));
    let quoted = (repeat::<_, _, (), _, _>(0.., piece).take(), expect("a closing double quote", literal("\"")));
    let (quoted, _): (&str, _) = cut_err(quoted).parse_next(input)?;
    unescape(quoted).map_err(|(offset, why)| ErrMode::Cut(Fault::new(at + offset, Problem::Text(why))))
}
