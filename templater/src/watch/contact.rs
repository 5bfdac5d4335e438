//! Whether the registry answers, and what the log says of it.

use std::{collections::HashMap, sync::Arc};

use kvstore_client::{Error, with_causes};
use tracing::{debug, info, warn};

use crate::values::Dependency;

/// Which reads fail now, and how: so that the log says it once and says when it is over.
#[derive(Default)]
pub(super) struct Contact {
    failing: HashMap<Arc<Dependency>, Failure>,
}

struct Failure {
    transient: bool,
    message: String,
}

impl Contact {
    /// Whether the registry is away since then.
    pub(super) fn failed(&mut self, dependency: &Arc<Dependency>, error: &Error) -> bool {
        let was_away = self.is_away();
        let failure = Failure { transient: error.is_transient(), message: with_causes(error) };
        let known = self.failing.get(dependency).is_some_and(|f| f.message == failure.message);
        if known || failure.transient && was_away {
            debug!(%dependency, "no answer: {}", failure.message);
        } else if failure.transient {
            warn!(
                "the registry does not answer; files stay as they are, and it is asked again until it does\n  cause: {}",
                failure.message
            );
        } else {
            warn!(%dependency, "the registry refuses to answer; what reads this is not written\n  cause: {}", failure.message);
        }
        self.failing.insert(dependency.clone(), failure);
        !was_away && self.is_away()
    }

    /// Nobody reads it any more.
    pub(super) fn forget(&mut self, dependency: &Arc<Dependency>) {
        self.failing.remove(dependency);
    }

    /// Why there is no answer, if there is none; of several reasons one.
    pub(super) fn trouble(&self) -> Option<String> {
        self.failing.values().map(|f| f.message.clone()).min()
    }

    pub(super) fn is_away(&self) -> bool {
        self.failing.values().any(|f| f.transient)
    }

    pub(super) fn answered(&mut self, dependency: &Arc<Dependency>, address: &str) {
        let recovered = self.failing.remove(dependency);
        if recovered.is_some_and(|f| f.transient) && !self.is_away() {
            info!("the registry at {address} answers again");
        }
    }
}
