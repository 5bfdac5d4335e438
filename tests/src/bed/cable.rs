//! What joins a host to the switch: a plain cable, or one that holds back what goes through it.
//!
//! Not every kernel can delay packets (netem), so the slow cable is a program of ours (`tests/relay`).

use std::time::Duration;

use crate::{
    namespace::Namespace,
    program::{Launch, Program},
};

/// A cable takes less to be laid.
const LIMIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Nothing is held back.
    Plain,
    /// Each packet is held back, in both directions, for `delay` and a random part of `jitter`, and so overtaken by others.
    Slow {
        /// The shortest time under way.
        delay: Duration,
        /// What may come to it.
        jitter: Duration,
    },
}

/// A cable that is there.
pub(super) enum Laid {
    Plain,
    Relayed {
        /// The end that is the host's.
        end: String,
        /// Carries what comes in at one end to the other.
        _relay: Program,
    },
}

impl Cable {
    /// Lays it to the switch's port `port`.
    pub(super) async fn begin(self, port: &str, switch: &Namespace) -> Laid {
        let Self::Slow { delay, jitter } = self else { return Laid::Plain };
        let end = format!("{port}-end");
        let micros = [delay, jitter].map(|time| time.as_micros().to_string());
        let relay = Launch::new(crate::program_path("relay")).args([port, &end]).args(micros).inside(switch);
        let mut relay = relay.start();
        relay.wait_for_log("ready", LIMIT).await;
        Laid::Relayed { end, _relay: relay }
    }
}
