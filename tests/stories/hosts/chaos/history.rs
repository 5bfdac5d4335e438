//! What the clients of a round have asked and were answered, and the verdict on it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use flotilla_tests::{
    linearizable::{Object, Refuted, Timed, check},
    objects::{Held, Lock, OnLock, OnRegister, Register},
};

/// All that was asked, by keys.
pub(crate) struct History {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    registers: BTreeMap<String, Vec<Timed<OnRegister>>>,
    locks: BTreeMap<String, Vec<Timed<OnLock>>>,
    /// Values by number; each value is written once.
    values: HashMap<String, u64>,
    /// Which value a key had under an index, whoever was asked.
    indexes: HashMap<(String, u64), u64>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) operations: usize,
    pub(crate) unknown: usize,
}

impl std::ops::AddAssign for Judged {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.unknown += other.unknown;
    }
}

impl History {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), inner: Mutex::default() }
    }

    /// The time, on the clock of this history.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a round is shorter than 500 years")
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a value.
    pub(crate) fn value(&self, value: &[u8]) -> u64 {
        let mut inner = self.inner();
        let next = inner.values.len() as u64;
        *inner.values.entry(String::from_utf8_lossy(value).into_owned()).or_insert(next)
    }

    /// Notes that `key` was seen with this value under this index.
    ///
    /// # Panics
    /// If it was seen with another under the same one.
    pub(crate) fn seen(&self, key: &str, index: u64, value: u64) {
        let before = *self.inner().indexes.entry((key.to_owned(), index)).or_insert(value);
        assert_eq!(before, value, "{key} had two values under the index {index}");
    }

    /// Notes what was asked of a key at `called`; its end, if it is known, is now.
    pub(crate) fn on_register(&self, key: &str, called: u64, is_known: bool, operation: OnRegister) {
        let returned = is_known.then(|| self.now());
        self.inner().registers.entry(key.to_owned()).or_default().push(Timed { operation, called, returned });
    }

    /// The same of a lock.
    pub(crate) fn on_lock(&self, key: &str, called: u64, is_known: bool, operation: OnLock) {
        let returned = is_known.then(|| self.now());
        self.inner().locks.entry(key.to_owned()).or_default().push(Timed { operation, called, returned });
    }

    /// Judges everything.
    ///
    /// # Panics
    /// With the end of a key's history, if no single registry could have answered so.
    pub(crate) fn judge(&self) -> Judged {
        let inner = self.inner();
        let mut judged = Judged::default();
        for (key, history) in &inner.registers {
            judged += judge::<Register>(key, None, history);
        }
        for (key, history) in &inner.locks {
            judged += judge::<Lock>(key, Held::default(), history);
        }
        judged
    }
}

fn judge<O: Object>(key: &str, initial: O::State, history: &[Timed<O::Operation>]) -> Judged {
    if let Err(refuted) = check::<O>(initial, history) {
        panic!("{key} was answered as no single registry would:\n{}", tell(history, &refuted));
    }
    let unknown = history.iter().filter(|timed| timed.returned.is_none()).count();
    Judged { operations: history.len(), unknown }
}

/// The operations around the one that cannot be.
fn tell<O: std::fmt::Debug>(history: &[Timed<O>], refuted: &Refuted) -> String {
    let line = |at: usize| {
        let Timed { operation, called, returned } = &history[at];
        format!("  {called}..{} {operation:?}\n", returned.map_or(String::new(), |returned| returned.to_string()))
    };
    let at = &history[refuted.at];
    let mut before: Vec<_> =
        (0..history.len()).filter(|&n| history[n].returned.is_some_and(|r| Some(r) < at.returned)).collect();
    before.sort_by_key(|&n| history[n].returned);
    let before: String = before[before.len().saturating_sub(20)..].iter().map(|&n| line(n)).collect();
    let pending: String = refuted.pending.iter().filter(|&&n| n != refuted.at).map(|&n| line(n)).collect();
    format!(
        "before it:\n{before}under way:\n{pending}states possible: {:?}\nimpossible:\n{}",
        refuted.states,
        line(refuted.at)
    )
}
