//! What a command failed by, in three lines: what went wrong on what, the cause, what to try.

use std::{error::Error, fmt, process::ExitCode};

use kvstore_client::causes;

use crate::{config::ConfigError, server::ServerError};

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub(super) struct Failure {
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// The command failed: code 1.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), hint: None, code: 1 }
    }

    /// The command was wrong: code 2.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(what) }
    }

    /// `error` and what caused it; texts that only repeat are left out.
    pub(super) fn because(mut self, error: &dyn Error) -> Self {
        self.causes.extend(causes(error).into_iter().filter(|text| !self.what.contains(text)));
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With another code, which the command's help tells.
    pub(super) fn exiting(self, code: u8) -> Self {
        Self { code, ..self }
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.causes.is_empty() {
            write!(f, "\n  cause: {}", self.causes.join(": "))?;
        }
        self.hint.iter().try_for_each(|hint| write!(f, "\n  try:   {hint}"))
    }
}

impl From<kvstore_client::Error> for Failure {
    fn from(error: kvstore_client::Error) -> Self {
        use kvstore_client::Error as E;
        let failure = Self::new(error.to_string()).because(&error);
        match error {
            E::Address { .. } | E::Token => Self { code: 2, ..failure },
            E::Transport { .. } | E::Timeout { .. } => {
                failure.hint("see that the agent runs; --http-addr or CONSUL_HTTP_ADDR name another address")
            }
            E::Status { status: 401 | 403, .. } => failure.hint("--token or CONSUL_HTTP_TOKEN with a token that may"),
            E::Tls { .. } | E::File(_) | E::Status { .. } | E::Decode { .. } => failure,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string()).hint("kvstore agent --help shows the flags and the keys of a file")
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let failure = Self::new(error.to_string()).because(&error);
        match &error {
            ServerError::Bind { address, source } => failure.hint(source.remedy(address)),
            ServerError::Engine(_) | ServerError::Hub(_) | ServerError::Register { .. } => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cause_and_hint_each_have_their_line() {
        let io = std::io::Error::other("disk on fire");
        let failure = Failure::new("cannot read x").because(&io).hint("put it out");
        assert_eq!(failure.to_string(), "cannot read x\n  cause: disk on fire\n  try:   put it out");
        assert_eq!(Failure::new("cannot read: disk on fire").because(&io).to_string(), "cannot read: disk on fire");
    }
}
