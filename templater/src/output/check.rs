//! Has the staged files looked at by who will read them, or by the configured command.

use tracing::warn;

use super::{
    Output, PutError,
    set::{Change, blocking, names_of},
    staging::{StagingDir, common_directory},
};
use crate::{
    command,
    target::readers::{Readers, Staged, Verdict},
    temp::TempFile,
};
use kvstore_client::with_causes;

impl Output {
    /// Whether the check command can look at the live files only.
    pub(super) fn checks_live(&self) -> bool {
        self.spec.check_cmd.as_ref().is_some_and(|check| !check.mentions("{src}") && !check.mentions("{stage}"))
    }

    /// Whether the check command looks at a copy of the whole directory.
    fn stages(&self) -> bool {
        self.spec.check_cmd.as_ref().is_some_and(|check| check.mentions("{stage}"))
    }

    pub(super) async fn check(
        &mut self,
        set: &[Change],
        staged: &[(usize, TempFile)],
        readers: Option<&Readers>,
    ) -> Result<(), PutError> {
        let files = names_of(set);
        let refused = |by: String, cause: String| PutError::Refused { by, files, cause };
        if staged.is_empty() && !self.checks_live() && !self.stages() {
            return Ok(()); // files only go; nothing new is there to be looked at
        }
        if self.spec.check_cmd.is_some() {
            return self.run_check(set, staged).await.map_err(|cause| refused("check_cmd".into(), cause));
        }
        let Some(readers) = readers else { return Ok(()) };
        let asked = staged.iter().map(|(at, temp)| Staged {
            path: temp.path(),
            text: &set[*at].text,
            destination: set[*at].destination(),
        });
        match readers.check(&asked.collect::<Vec<_>>(), &self.docker, self.spec.command_timeout).await {
            Verdict::Accepted => Ok(()),
            Verdict::Refused(cause) => Err(refused(readers.kind().to_string(), cause)),
            Verdict::Unchecked(why) => {
                if !std::mem::replace(&mut self.warned.unchecked, true) {
                    warn!("the file cannot be checked: {why}");
                }
                Ok(())
            }
        }
    }

    /// What is wrong, if the check command does not succeed.
    async fn run_check(&self, set: &[Change], staged: &[(usize, TempFile)]) -> Result<(), String> {
        let Some(check) = &self.spec.check_cmd else { return Ok(()) };
        let staging = if self.stages() {
            let text = |change: &Change| (!change.gone).then(|| change.text.clone());
            let files: Vec<_> = set.iter().map(|c| (c.destination().to_owned(), text(c))).collect();
            let common = || common_directory(set.iter().map(Change::destination));
            let directory = self.spec.stage_dir.clone().unwrap_or_else(common);
            let made = blocking(move || StagingDir::make(&directory, &files)).await;
            Some(made.map_err(|e| format!("the copy for {{stage}} cannot be made: {e}"))?)
        } else {
            None
        };
        // Both name one file: a command for several that names {src} or {dst} is no configuration.
        let live = set[0].destination();
        let src = staged.first().map_or(live, |(_, temp)| temp.path());
        let stage = staging.as_ref().map_or(live, StagingDir::path);
        let invocation = check.expand(&[("{src}", src), ("{dst}", live), ("{stage}", stage)]);
        match command::run(&invocation, self.spec.command_timeout).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}\n{}", with_causes(&error), error.output())),
        }
    }
}
