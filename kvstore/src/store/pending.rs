//! A command on its way: decided once or again, in one step or in several, and answered in the end.

use kvstore_core::{Command, Decision, Outcome, Refusal, State, decide, decide_in_steps, names::SessionId};
use tokio::sync::oneshot;

use super::Written;

/// A command that has not been answered.
pub(super) struct Pending {
    pub(super) command: Command,
    reply: Option<oneshot::Sender<Written>>,
    pub(super) attempts: usize,
    /// Whether it is too large to be carried out at once.
    pub(super) in_steps: bool,
    /// Once the first step is made.
    rest: Option<Rest>,
}

/// What is to be done before a command that is carried out in steps is answered.
struct Rest {
    outcome: Outcome,
    /// Sessions that have not given all back yet.
    sessions: Vec<SessionId>,
}

impl Pending {
    pub(super) fn new(command: Command, reply: Option<oneshot::Sender<Written>>) -> Self {
        Self { command, reply, attempts: 0, in_steps: false, rest: None }
    }

    pub(super) fn decide(&self, state: &State) -> Result<Decision, Refusal> {
        let decide = if self.in_steps { decide_in_steps } else { decide };
        decide(state, &self.command)
    }

    /// Nobody to answer is no fault: the client went away.
    pub(super) fn answer(self, written: Written) {
        if let Some(reply) = self.reply {
            let _ = reply.send(written);
        }
    }

    /// What comes after a step that left sessions `ending`.
    pub(super) fn after_step(mut self, outcome: Outcome, ending: Vec<SessionId>) -> Progress {
        let mut rest = self.rest.take().unwrap_or(Rest { outcome, sessions: Vec::new() });
        rest.sessions.extend(ending);
        let Some(session) = rest.sessions.pop() else { return Progress::Done(self, rest.outcome) };
        self.command = Command::DestroySession { session };
        self.attempts = 0;
        self.rest = Some(rest);
        Progress::Next(self)
    }
}

/// How far a command is after a step.
pub(super) enum Progress {
    /// It has another.
    Next(Pending),
    /// It is to be answered with this outcome.
    Done(Pending, Outcome),
}
