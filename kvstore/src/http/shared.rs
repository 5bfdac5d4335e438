//! Answers that are at hand: rendered once, shared by all who ask the same of the same rows.
//!
//! An answer is known by everything that shapes it: the endpoint, what follows in its path, who may see it, and its parameters but for
//! those that only say when to answer. It holds as long as the index of what it shows stays; an index never comes back
//! in one life of the registry (see [`kvstore_core::State::index_of`]), so bytes of other rows are never given out. What of it is kept is bounded in
//! bytes: what was not asked for lately goes first.

use std::{
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use kvstore_core::{
    Index, State,
    acl::Authority,
    generations::{Generations, Size},
};

use super::{blocking::Found, query::Query};

/// Kept at the most: so much that was asked for lately, and as much that was not.
const MAX_GENERATION_BYTES: usize = 8 << 20;

/// What an answer takes beside its bytes and its name, about.
const OVERHEAD_BYTES: usize = 256;

/// Parameters that say when to answer, or what to say about it beside it.
const NOT_SHAPING: &[&str] = &["index", "wait", "stale", "consistent", "cached", "max_stale", "pretty", "token"];

/// Everything that shapes an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Of the registry, as far as indexes go: see [`kvstore_core::State::life`].
    life: u64,
    route: usize,
    rest: String,
    pairs: Vec<(String, String)>,
    /// Whose view it shows; none: everything.
    authority: Option<Authority>,
}

impl Shape {
    /// A request to the route of that number by who has that authority.
    pub(super) fn of(life: u64, route: usize, rest: String, query: Query, authority: Option<Authority>) -> Self {
        Self { life, route, rest, pairs: query.into_pairs_without(NOT_SHAPING), authority }
    }

    /// Whether an answer from `state` may be kept under it.
    pub(super) fn is_of(&self, state: &State) -> bool {
        self.life == state.life()
    }
}

impl Size for Shape {
    fn bytes(&self) -> usize {
        self.rest.len() + self.pairs.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>()
    }
}

/// What a read found, with what else is made of it once.
#[derive(Debug)]
pub(super) struct Rendered {
    /// As it goes over the wire unless asked for otherwise.
    pub(super) found: Found,
    packed: OnceLock<Option<Bytes>>,
    print: OnceLock<Print>,
    /// The newest index of a whole state in which this is known to hold; 0: none.
    holds_at: AtomicU64,
}

/// Tells renderings apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print(u64, u64);

impl Rendered {
    pub(super) fn new(found: Found) -> Self {
        Self { found, packed: OnceLock::new(), print: OnceLock::new(), holds_at: AtomicU64::new(0) }
    }

    /// What it has of bytes.
    pub(super) fn bytes(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        match &self.found {
            Found::Json(bytes) | Found::Raw(bytes) => bytes,
            Found::Nothing => &NONE,
        }
    }

    /// The bytes packed by `pack`, which is called once however many ask.
    pub(super) fn packed(&self, pack: impl FnOnce(&[u8]) -> Option<Bytes>) -> Option<Bytes> {
        self.packed.get_or_init(|| pack(self.bytes())).clone()
    }

    /// Whether [`Rendered::packed`] answers without packing.
    pub(super) fn is_packed(&self) -> bool {
        self.packed.get().is_some()
    }

    /// What has the same print, by the same `hashers`, is the same, as far as 128 bits can tell.
    pub(super) fn print(&self, hashers: &Hashers) -> Print {
        let found = (matches!(self.found, Found::Nothing), self.bytes());
        *self.print.get_or_init(|| Print(hashers.0.hash_one(found), hashers.1.hash_one(found)))
    }
}

/// Keys of this process for [`Print`].
#[derive(Clone, Debug, Default)]
pub(super) struct Hashers(std::hash::RandomState, std::hash::RandomState);

/// The answers at hand.
#[derive(Debug)]
pub(super) struct Answers {
    kept: Mutex<Generations<Shape, Kept>>,
    /// For [`Rendered::print`].
    pub(super) hashers: Hashers,
}

#[derive(Clone, Debug)]
struct Kept {
    /// Of what it shows, in the state it was rendered from.
    index: Index,
    rendered: Arc<Rendered>,
}

impl Size for Kept {
    fn bytes(&self) -> usize {
        self.rendered.bytes().len() + OVERHEAD_BYTES
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self { kept: Mutex::new(Generations::new(MAX_GENERATION_BYTES)), hashers: Hashers::default() }
    }
}

impl Answers {
    /// The answer of that shape in the state of the index `state`; `shown` is the index there of what it shows, `render`
    /// makes it if nobody has yet.
    pub(super) fn get(
        &self,
        shape: &Shape,
        state: Index,
        shown: impl FnOnce() -> Index,
        render: impl FnOnce() -> Found,
    ) -> Arc<Rendered> {
        let found = self.lock().find(shape).cloned();
        let holds = |kept: &&Kept| kept.rendered.holds_at.load(Ordering::Relaxed) == state.0;
        if let Some(kept) = found.as_ref().filter(holds) {
            return kept.rendered.clone();
        }
        let index = shown();
        let rendered = match found {
            Some(kept) if kept.index == index => kept.rendered,
            _ => {
                // Not under the lock: two who come at once may both render, and others do not wait for either.
                let rendered = Arc::new(Rendered::new(render()));
                self.keep(shape.clone(), Kept { index, rendered: rendered.clone() });
                rendered
            }
        };
        // There is one state of each index, so whoever comes with the same one need not look what changed.
        rendered.holds_at.fetch_max(state.0, Ordering::Relaxed);
        rendered
    }

    fn keep(&self, shape: Shape, kept: Kept) {
        let mut all = self.lock();
        // Who reads an older state than somebody else does not put it in the newer one's place.
        if all.find(&shape).is_none_or(|present| present.index <= kept.index) {
            all.keep(shape, kept);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<Shape, Kept>> {
        // Each answer is whole before it is put in.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rest: &str, query: &str) -> Shape {
        Shape::of(0, 7, rest.into(), Query::parse(Some(query)).unwrap(), None)
    }

    /// The answer in the state of an index, where what it shows has changed last at that index too.
    fn get(answers: &Answers, shape: &Shape, index: u64, text: &str) -> String {
        get_in(answers, shape, index, index, text)
    }

    fn get_in(answers: &Answers, shape: &Shape, state: u64, shown: u64, text: &str) -> String {
        let render = || Found::Json(Bytes::copy_from_slice(text.as_bytes()));
        let rendered = answers.get(shape, Index(state), || Index(shown), render);
        String::from_utf8(rendered.bytes().to_vec()).unwrap()
    }

    #[test]
    fn an_answer_is_given_out_only_at_its_own_index() {
        let (answers, web) = (Answers::default(), shape("web", ""));
        assert_eq!(get_in(&answers, &web, 7, 5, "at 5"), "at 5");
        assert_eq!(get_in(&answers, &web, 7, 5, "not made again"), "at 5", "the same state");
        assert_eq!(get_in(&answers, &web, 9, 5, "not made again"), "at 5", "something else has changed");
        assert_eq!(get_in(&answers, &web, 7, 5, "not made again"), "at 5", "an older state of the same");
        assert_eq!(get_in(&answers, &web, 4, 4, "older"), "older", "a reader of an older state");
        assert_eq!(get_in(&answers, &web, 9, 5, "not made again"), "at 5", "which replaces nothing");
        assert_eq!(get_in(&answers, &web, 10, 10, "newer"), "newer");
        assert_eq!(get_in(&answers, &web, 9, 5, "older"), "older");
        assert_eq!(get_in(&answers, &web, 11, 10, "not made again"), "newer");
    }

    #[test]
    fn whatever_shapes_an_answer_tells_it_apart() {
        let answers = Answers::default();
        let shapes = [
            shape("web", ""),
            shape("api", ""),
            shape("web", "passing"),
            shape("web", "passing=false"),
            shape("web", "tag=a&tag=b"),
            shape("web", "tag=a%26tag=b"),
            Shape::of(0, 8, "web".into(), Query::default(), None),
            Shape::of(0, 7, "web".into(), Query::default(), Some(Authority::reader())),
            Shape::of(1, 7, "web".into(), Query::default(), None),
        ];
        for (n, shape) in shapes.iter().enumerate() {
            assert_eq!(get(&answers, shape, 1, &n.to_string()), n.to_string(), "{shape:?}");
        }
        let waiting = shape("web", "index=7&passing&wait=3s&stale&cached&pretty&token=x");
        assert_eq!(get(&answers, &waiting, 1, "x"), "2", "when to answer does not shape the answer");
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_asked_for_stays() {
        let answers = Answers::default();
        let big = "x".repeat(MAX_GENERATION_BYTES / 10);
        let wanted = shape("wanted", "");
        get(&answers, &wanted, 1, "kept");
        for n in 0..50 {
            get(&answers, &shape(&n.to_string(), ""), 1, &big);
            assert_eq!(get(&answers, &wanted, 1, "made again"), "kept");
            let kept = answers.lock();
            assert!(kept.bytes() <= 2 * MAX_GENERATION_BYTES);
        }
        assert_eq!(get(&answers, &shape("0", ""), 1, "made again"), "made again");
        let huge = "x".repeat(MAX_GENERATION_BYTES + 1);
        assert_eq!(get(&answers, &shape("huge", ""), 1, &huge).len(), huge.len());
        assert_eq!(get(&answers, &shape("huge", ""), 1, "not kept"), "not kept");
    }

    #[test]
    fn an_answer_that_is_replaced_is_counted_once() {
        let (answers, web) = (Answers::default(), shape("web", ""));
        for index in 1..100 {
            get(&answers, &web, index, "same length");
        }
        let kept = answers.lock();
        assert_eq!(kept.bytes(), web.bytes() + 11 + OVERHEAD_BYTES);
    }

    #[test]
    fn prints_tell_what_differs() {
        let hashers = Hashers::default();
        let print = |found| Rendered::new(found).print(&hashers);
        let json = |text: &'static str| Found::Json(Bytes::from_static(text.as_bytes()));
        assert_eq!(print(json("[]")), print(json("[]")));
        assert_ne!(print(json("[]")), print(json("[1]")));
        assert_ne!(print(json("")), print(Found::Nothing));
    }

    #[test]
    fn it_is_packed_once() {
        let rendered = Rendered::new(Found::Json(Bytes::from_static(b"plain")));
        assert!(!rendered.is_packed());
        assert_eq!(rendered.packed(|_| Some(Bytes::from_static(b"p"))).unwrap(), "p");
        assert_eq!(rendered.packed(|_| unreachable!()).unwrap(), "p");
        assert!(rendered.is_packed());
    }
}
