//! Hosts that fall silent together stay as they are: then it is the registry that hears nobody (`kvstore_core::cut_off`).

use std::sync::atomic::Ordering;

use kvstore_core::{
    State,
    cut_off::{Silence, hosts, is_word},
};
use tokio::time::Instant;

use super::{Deadlines, Timed};

impl Deadlines {
    /// Takes out of `due` whoever is not to end, because too many would. When they are heard again each has its full time.
    ///
    /// Where the engine keeps deadlines, several kvstores hear the hosts, and what one misses another does not.
    pub(super) fn hold(&self, due: &mut Vec<Timed>, state: &State, now: Instant) {
        if self.lock().keeps_any() {
            return;
        }
        let is_host = |timed: &Timed| match timed {
            Timed::Check(node, id) => state.check(node, id).is_some_and(|check| is_word(check)),
            _ => false,
        };
        let silent: Vec<_> = due.iter().filter(|timed| is_host(timed)).cloned().collect();
        let silence = if silent.is_empty() { Silence::default() } else { self.silence(state, now) };
        let was_ours = self.is_cut_off.swap(silence.is_ours(), Ordering::Relaxed);
        match (was_ours, silence.is_ours()) {
            (false, false) => return,
            (false, true) => tracing::warn!(
                silent = silence.silent,
                hosts = silence.hosts,
                "more than half of the hosts are silent at once, so it is this registry that hears nobody: they stay as \
                 they are; deregister those that are gone"
            ),
            (true, true) => {}
            (true, false) => {
                tracing::info!("hosts are heard again; those that are not are gone after their TTL");
                for timed in &silent {
                    self.start(timed, state, now);
                }
            }
        }
        due.retain(|timed| !silent.contains(timed));
    }

    fn silence(&self, state: &State, now: Instant) -> Silence {
        let table = self.lock();
        Silence::of(hosts(state).filter_map(|check| {
            let until = table.when(&Timed::Check(check.node.clone(), check.id.clone()))?;
            Some((until.saturating_duration_since(now), check.ttl()?))
        }))
    }
}
