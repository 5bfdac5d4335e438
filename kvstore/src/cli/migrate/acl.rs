//! Policies, and tokens with their secrets, from one registry to another. A secret goes into the request that makes its token,
//! and nowhere else.

use std::collections::BTreeSet;

use kvstore_client::{Error, types::AclToken};

use super::{
    Failure, Migration,
    credentials::{
        change_fault, is_builtin_policy, is_builtin_token, of_policy, of_token, policy_fault, secret_fault, token_fault,
    },
    plan::{self, Report, Step},
    progress,
};

const POLICIES: &str = "acl policies";
const TOKENS: &str = "acl tokens";

impl Migration {
    /// Policies first, since tokens name them.
    pub(super) async fn access(&mut self) -> Result<(), Failure> {
        let policies = listed(POLICIES, self.from.acl_policy_list().await, &mut self.report)?;
        let tokens = listed(TOKENS, self.from.acl_token_list().await, &mut self.report)?;
        let (builtin_policies, policies): (Vec<_>, Vec<_>) = policies.into_iter().partition(is_builtin_policy);
        let (builtin_tokens, tokens): (Vec<_>, Vec<_>) = tokens.into_iter().partition(is_builtin_token);
        if !builtin_policies.is_empty() || !builtin_tokens.is_empty() {
            self.report
                .by_design
                .push("the policy global-management and the anonymous token are in every registry".into());
        }
        if policies.is_empty() && tokens.is_empty() {
            return Ok(());
        }
        let why = match self.to.acl_token_list().await {
            Ok(there) => {
                let ids = policies.into_iter().map(|policy| policy.id).collect();
                let here = self.policies(ids).await?;
                let accessors = tokens.into_iter().map(|token| token.accessor_id).collect();
                return self.tokens(accessors, &here, &there).await;
            }
            Err(error) if error.status() == Some(401) => "access control is off here; switch it on, and run it again",
            Err(error) if error.status() == Some(403) => "the token of this registry may not write access rules",
            Err(error) => return Err(error.into()),
        };
        for (kind, count) in [(POLICIES, policies.len()), (TOKENS, tokens.len())] {
            if count > 0 {
                self.report.leave_all(kind, count, why);
            }
        }
        Ok(())
    }

    /// The names of those that are here then as they are there.
    async fn policies(&mut self, ids: Vec<String>) -> Result<BTreeSet<String>, Failure> {
        let there = self.to.acl_policy_list().await?;
        let mut here = BTreeSet::new();
        for id in progress::counting(POLICIES, ids.len()).wrap_iter(ids.into_iter()) {
            let Some(found) = unless_gone(self.from.acl_policy_read(&id).await)? else { continue };
            if let Some(fault) = policy_fault(&found) {
                self.report.leave(POLICIES, &found.name, &fault);
                continue;
            }
            let other = match there.iter().find(|other| other.name == found.name) {
                Some(other) => unless_gone(self.to.acl_policy_read(&other.id).await)?,
                None => None,
            };
            let mut wanted = of_policy(&found);
            let step = plan::step(&wanted, other.as_ref().map(of_policy).as_ref(), self.overwrite);
            let written = match (step, other) {
                (Step::Carry, Some(other)) if !self.dry_run => {
                    wanted.id = other.id;
                    self.to.acl_policy_update(&wanted).await.map(drop)
                }
                (Step::Carry, None) if !self.dry_run => self.to.acl_policy_create(&wanted).await.map(drop),
                _ => Ok(()),
            };
            let is_done = self.settle(POLICIES, &found.name, step, written)?;
            if is_done && step != Step::Conflict {
                here.insert(found.name);
            }
        }
        Ok(here)
    }

    async fn tokens(
        &mut self,
        accessors: Vec<String>,
        here: &BTreeSet<String>,
        there: &[AclToken],
    ) -> Result<(), Failure> {
        for accessor in progress::counting(TOKENS, accessors.len()).wrap_iter(accessors.into_iter()) {
            let Some(found) = unless_gone(self.from.acl_token_read(&accessor).await)? else { continue };
            let wanted = of_token(&found);
            let other = there.iter().find(|other| other.accessor_id == accessor).map(of_token);
            let step = plan::step(&wanted, other.as_ref(), self.overwrite);
            let fault = match (step, &other) {
                (Step::Carry, None) => secret_fault(&found.secret_id),
                (Step::Carry, Some(other)) => change_fault(&wanted, other),
                (Step::Same | Step::Conflict, _) => None,
            };
            if let Some(fault) = token_fault(&found, here).or(fault.map(str::to_owned)) {
                self.report.leave(TOKENS, &accessor, &fault);
                continue;
            }
            let written = match (step, other) {
                (Step::Carry, Some(_)) if !self.dry_run => self.to.acl_token_update(&wanted).await.map(drop),
                (Step::Carry, None) if !self.dry_run => {
                    let with_secret = AclToken { secret_id: found.secret_id, ..wanted };
                    self.to.acl_token_create(&with_secret).await.map(drop)
                }
                _ => Ok(()),
            };
            self.settle(TOKENS, &accessor, step, written)?;
        }
        Ok(())
    }

    /// Counts what was done, or was refused for what it is; whether it was not refused.
    fn settle(
        &mut self,
        kind: &'static str,
        name: &str,
        step: Step,
        written: Result<(), Error>,
    ) -> Result<bool, Failure> {
        match written {
            Ok(()) => self.report.count(kind, name, step),
            Err(Error::Status { status: 400, message, .. }) => {
                self.report.leave(kind, name, &format!("it is refused here: {message}"));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

/// What is there; nothing where there is no such thing, or it is not for this token, and the report has that.
fn listed<T>(kind: &'static str, found: Result<Vec<T>, Error>, report: &mut Report) -> Result<Vec<T>, Failure> {
    match found {
        Ok(found) => return Ok(found),
        Err(error) if error.status() == Some(401) => {
            report.by_design.push(format!("{kind}: access control is off there"));
        }
        Err(error) if error.status() == Some(403) => {
            report.leave_all(kind, 0, "the token of --from-token-file may not read them; it needs acl = \"write\"");
        }
        // Older than policies.
        Err(error) if error.status() == Some(404) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Vec::new())
}

/// One that somebody took away meanwhile is none.
fn unless_gone<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        // Consul's answer about what is not there is no 404 everywhere.
        Err(Error::Status { status: 403 | 404, message, .. }) if message.contains("ACL not found") => Ok(None),
        Err(error) => Err(error),
    }
}
