//! Tokens and policies.

use std::time::Duration;

use kvstore_core::{
    AclRefusal, Command, Index, Refusal,
    credentials::{ANONYMOUS, Bootstrap, GLOBAL_MANAGEMENT, Policy, Token},
    names::{PolicyId, TokenId},
};

use super::{Naive, unstamped};

impl Naive {
    pub(super) fn change_acl(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::PrepareAcl { now, management } => {
                self.put_global_management();
                let accessor = TokenId::new(ANONYMOUS).unwrap();
                self.tokens.entry(accessor.clone()).or_insert_with(|| {
                    let (description, policies) = ("Anonymous Token".into(), vec![]);
                    let (secret, local, made, ends) = (None, false, *now, Duration::ZERO);
                    unstamped(Token { accessor, secret, description, policies, local, made, ends })
                });
                if let Some(token) = management
                    && !self.tokens.values().any(|other| other.secret == token.secret)
                {
                    self.bootstrap.entry(()).or_insert_with(|| unstamped(Bootstrap { token: token.accessor.clone() }));
                    self.put_management(token);
                }
            }
            Command::BootstrapAcl { token, .. } => {
                if let Some(done) = self.bootstrap.get(&()) {
                    return Err(AclRefusal::Bootstrapped(done.modified).into());
                }
                self.claim(token)?;
                self.put_global_management();
                self.put_management(token);
                self.bootstrap.insert((), unstamped(Bootstrap { token: token.accessor.clone() }));
            }
            Command::CreateToken { token } => {
                self.claim(token)?;
                self.need_policies(&token.policies)?;
                self.tokens.insert(token.accessor.clone(), unstamped((**token).clone()));
            }
            Command::UpdateToken { token, description, policies } => {
                let old = self.tokens.get(token).ok_or(AclRefusal::UnknownToken)?.value.clone();
                self.need_policies(policies)?;
                let (description, policies) = (description.clone(), policies.clone());
                self.tokens.insert(token.clone(), unstamped(Token { description, policies, ..old }));
            }
            Command::DeleteToken { token } => {
                if token.as_str() == ANONYMOUS {
                    return Err(AclRefusal::Anonymous.into());
                }
                self.tokens.remove(token).ok_or(AclRefusal::UnknownToken)?;
            }
            Command::ExpireToken { token } => drop(self.tokens.remove(token)),
            Command::CreatePolicy { policy } => {
                if self.policies.contains_key(&policy.id) {
                    return Err(Refusal::Conflict);
                }
                self.put_policy(policy)?;
            }
            Command::UpdatePolicy { policy } => {
                let old = self.policies.get(&policy.id).ok_or(AclRefusal::UnknownPolicy)?;
                if policy.id.as_str() == GLOBAL_MANAGEMENT && policy.rules != old.rules {
                    return Err(AclRefusal::BuiltinRules.into());
                }
                self.put_policy(policy)?;
            }
            Command::DeletePolicy { policy } => {
                if policy.as_str() == GLOBAL_MANAGEMENT {
                    return Err(AclRefusal::Builtin.into());
                }
                self.policies.remove(policy).ok_or(AclRefusal::UnknownPolicy)?;
                self.tokens.values_mut().for_each(|token| token.value.policies.retain(|id| id != policy));
            }
            other => unreachable!("{other:?} is of other things"),
        }
        Ok(())
    }

    /// With the rules that the state has, which its own tests judge.
    fn put_global_management(&mut self) {
        let id = PolicyId::new(GLOBAL_MANAGEMENT).unwrap();
        let mut state = kvstore_core::State::empty(Index(1));
        let prepare = Command::PrepareAcl { now: Duration::ZERO, management: None };
        state.apply(Index(2), &kvstore_core::decide(&state, &prepare).unwrap().changes);
        let builtin = state.credentials().policy(&id).unwrap().value.clone();
        self.policies.entry(id).or_insert_with(|| unstamped(builtin));
    }

    fn put_management(&mut self, token: &Token) {
        let policies = vec![PolicyId::new(GLOBAL_MANAGEMENT).unwrap()];
        self.tokens.insert(token.accessor.clone(), unstamped(Token { policies, ..token.clone() }));
    }

    fn claim(&self, token: &Token) -> Result<(), AclRefusal> {
        if self.tokens.contains_key(&token.accessor) {
            return Err(AclRefusal::AccessorTaken);
        }
        let taken = self.tokens.values().any(|other| other.secret == token.secret);
        if taken { Err(AclRefusal::SecretTaken) } else { Ok(()) }
    }

    fn need_policies(&self, ids: &[PolicyId]) -> Result<(), AclRefusal> {
        let unknown = ids.iter().find(|id| !self.policies.contains_key(*id));
        unknown.map_or(Ok(()), |id| Err(AclRefusal::NoSuchPolicy(id.clone())))
    }

    fn put_policy(&mut self, policy: &Policy) -> Result<(), AclRefusal> {
        if policy.name.contains(' ') {
            return Err(AclRefusal::Name);
        }
        if self.policies.values().any(|other| other.name == policy.name && other.id != policy.id) {
            return Err(AclRefusal::NameTaken(policy.name.clone()));
        }
        self.policies.insert(policy.id.clone(), unstamped(policy.clone()));
        Ok(())
    }
}
