//! Finds recursors that would only ask us in turn: a question with a name that nobody else can know is sent to them,
//! and either comes back to us or does not.
//!
//! That is how dnsmasq's `--dns-loop-detect` does it. A question that goes round costs little, since it waits for itself
//! and is sent on only once; but nobody gets an answer, and each time the asker waits until the timeout.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use trust_dns_resolver::proto::rr::{Name, RecordType};

/// How the first label of a made-up name begins.
const PREFIX: &[u8] = b"kvstore-loop-";

/// Names that somebody waits for, by which it is suspected that a recursor leads back to us.
const MAX_SUSPECTS: usize = 16;

/// What is under way, and what came back of it.
#[derive(Debug, Default)]
pub(super) struct Probes {
    notes: Mutex<Notes>,
    suspicion: Notify,
}

#[derive(Debug, Default)]
struct Notes {
    /// Made-up labels that were sent, and whether they came back.
    sent: HashMap<Vec<u8>, bool>,
    /// Questions that recursors are asked just now, and whether the same one came in meanwhile.
    asked: HashMap<(Name, RecordType), bool>,
    suspects: HashSet<Name>,
}

impl Probes {
    /// Whether `name` was made up by us; it has come back then.
    pub(super) fn is_back(&self, name: &Name) -> bool {
        let Some(label) = name.iter().next().filter(|label| starts_with(label, PREFIX)) else { return false };
        let mut notes = self.notes();
        let back = notes.sent.get_mut(&label.to_ascii_lowercase());
        back.map(|back| *back = true).is_some()
    }

    /// A name in `domain` that nobody else can know, as long as it is held; none if there is no room for one.
    pub(super) fn make_up(&self, domain: &Name) -> Option<Probe<'_>> {
        let label = [PREFIX, format!("{:032x}", rand::random::<u128>()).as_bytes()].concat();
        let name = domain.prepend_label(&label[..]).ok()?;
        self.notes().sent.insert(label.clone(), false);
        Some(Probe { probes: self, label, name })
    }

    /// A question that others are asked from now on, as long as it is held.
    pub(super) fn asking(&self, name: &Name, qtype: RecordType) -> Asking<'_> {
        let question = (name.clone(), qtype);
        let mut notes = self.notes();
        let first = match notes.asked.get_mut(&question) {
            Some(again) => {
                *again = true;
                false
            }
            None => notes.asked.insert(question.clone(), false).is_none(),
        };
        Asking { probes: self, question, first }
    }

    /// Waits until there is a suspicion.
    pub(super) async fn suspicion(&self) {
        self.suspicion.notified().await;
    }

    /// The names it is about, each told once.
    pub(super) fn take_suspects(&self) -> HashSet<Name> {
        std::mem::take(&mut self.notes().suspects)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn starts_with(label: &[u8], prefix: &[u8]) -> bool {
    label.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A made-up name.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    probes: &'a Probes,
    label: Vec<u8>,
    pub(super) name: Name,
}

impl Probe<'_> {
    pub(super) fn came_back(&self) -> bool {
        self.probes.notes().sent.get(&self.label) == Some(&true)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.probes.notes().sent.remove(&self.label);
    }
}

/// A question that others are asked.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    probes: &'a Probes,
    question: (Name, RecordType),
    /// It was not asked before it was asked here.
    first: bool,
}

impl Asking<'_> {
    /// Somebody had no answer. If the same question came in meanwhile, it may have been ours.
    pub(super) fn failed(&self) {
        let mut notes = self.probes.notes();
        if self.first && notes.asked.get(&self.question) == Some(&true) && notes.suspects.len() < MAX_SUSPECTS {
            notes.suspects.insert(self.question.0.clone());
            self.probes.suspicion.notify_one();
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.first {
            self.probes.notes().asked.remove(&self.question);
        }
    }
}
