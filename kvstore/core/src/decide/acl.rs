//! Tokens and policies: which may be, and what goes with a policy.

use std::time::Duration;

use super::{Draft, Refusal};
use crate::{
    Index,
    acl::{Rules, RulesError},
    credentials::{ANONYMOUS, Bootstrap, Credentials, GLOBAL_MANAGEMENT, Policy, Token},
    names::{PolicyId, TokenId},
    row::{Row, RowKey, RowRange},
};

/// The longest name of a policy, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What the policy that permits everything says.
const EVERYTHING: &str = r#"acl = "write"
agent_prefix "" {
  policy = "write"
}
event_prefix "" {
  policy = "write"
}
key_prefix "" {
  policy = "write"
}
keyring = "write"
node_prefix "" {
  policy = "write"
}
operator = "write"
query_prefix "" {
  policy = "write"
}
service_prefix "" {
  policy = "write"
}
session_prefix "" {
  policy = "write"
}
"#;

/// Why a token or policy is not made, changed or taken away. Clients know some of the texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclRefusal {
    /// The first token was made before.
    #[error("Permission denied: ACL bootstrap no longer allowed (reset index: {0})")]
    Bootstrapped(Index),
    /// Nothing is known of the token.
    #[error("token does not exist: ACL not found")]
    UnknownToken,
    /// Nothing is known of the policy.
    #[error("policy does not exist: ACL not found")]
    UnknownPolicy,
    /// A token with a policy that is not there.
    #[error("No such ACL policy with ID {0:?}")]
    NoSuchPolicy(PolicyId),
    /// The accessor id belongs to another token.
    #[error("Invalid Token: AccessorID is already in use")]
    AccessorTaken,
    /// The secret belongs to another token.
    #[error("Invalid Token: SecretID is already in use")]
    SecretTaken,
    /// The anonymous token is always there.
    #[error("Delete operation not permitted on the anonymous token")]
    Anonymous,
    /// The policy that permits everything is always there.
    #[error("Delete operation not permitted on the builtin global-management policy")]
    Builtin,
    /// The policy that permits everything permits everything.
    #[error("Changing the Rules for the builtin global-management policy is not permitted")]
    BuiltinRules,
    /// Another policy has the name.
    #[error("Invalid Policy: A Policy with Name {0:?} already exists")]
    NameTaken(String),
    /// No name.
    #[error(
        "Invalid Policy: invalid Name. Only alphanumeric characters, '-' and '_' are allowed, from 1 to {MAX_NAME_BYTES}"
    )]
    Name,
    /// No rules.
    #[error("Invalid Policy: the rules cannot be read: {0}")]
    Rules(#[from] RulesError),
}

fn global_management() -> PolicyId {
    PolicyId::new(GLOBAL_MANAGEMENT).expect("a constant id")
}

fn anonymous() -> TokenId {
    TokenId::new(ANONYMOUS).expect("a constant id")
}

impl Draft<'_> {
    /// Everything there is of this: changes of it are few, so each relies on all.
    fn credentials(&mut self) -> &Credentials {
        self.rely_on_range(RowRange::Acl);
        self.state().credentials()
    }

    pub(super) fn prepare_acl(&mut self, now: Duration, management: Option<&Token>) {
        self.put_builtin();
        if self.credentials().token(&anonymous()).is_none() {
            self.put(Row::Token(Token {
                accessor: anonymous(),
                secret: None,
                description: "Anonymous Token".into(),
                policies: Vec::new(),
                local: false,
                made: now,
                ends: Duration::ZERO,
            }));
        }
        let Some(token) = management else { return };
        let credentials = self.credentials();
        let is_first = credentials.bootstrap().is_none();
        if token.secret.is_none_or(|secret| credentials.token_of(&secret).is_none()) {
            self.put_management(token);
            if is_first {
                self.put(Row::Bootstrap(Bootstrap { token: token.accessor.clone() }));
            }
        }
    }

    pub(super) fn bootstrap_acl(&mut self, token: &Token, reset: Option<Index>) -> Result<(), Refusal> {
        let last = self.credentials().bootstrap().map(|row| row.modified);
        if let Some(last) = last.filter(|last| reset != Some(*last)) {
            return Err(AclRefusal::Bootstrapped(last).into());
        }
        self.claim(token)?;
        self.put_builtin();
        self.put_management(token);
        self.put(Row::Bootstrap(Bootstrap { token: token.accessor.clone() }));
        Ok(())
    }

    fn put_builtin(&mut self) {
        if self.credentials().policy(&global_management()).is_none() {
            self.put(Row::Policy(Policy {
                id: global_management(),
                name: "global-management".into(),
                description: "Builtin Policy that grants unlimited access".into(),
                rules: EVERYTHING.into(),
                datacenters: Vec::new(),
            }));
        }
    }

    fn put_management(&mut self, token: &Token) {
        self.put(Row::Token(Token { policies: vec![global_management()], ..token.clone() }));
    }

    pub(super) fn create_token(&mut self, token: &Token) -> Result<(), Refusal> {
        self.claim(token)?;
        self.need_policies(&token.policies)?;
        self.put(Row::Token(token.clone()));
        if let Some(lifetime) = token.lifetime() {
            self.renew(RowKey::Token(token.accessor.clone()), lifetime);
        }
        Ok(())
    }

    fn claim(&mut self, token: &Token) -> Result<(), AclRefusal> {
        let credentials = self.credentials();
        if credentials.token(&token.accessor).is_some() {
            return Err(AclRefusal::AccessorTaken);
        }
        let taken = token.secret.is_some_and(|secret| credentials.token_of(&secret).is_some());
        if taken { Err(AclRefusal::SecretTaken) } else { Ok(()) }
    }

    fn need_policies(&mut self, policies: &[PolicyId]) -> Result<(), AclRefusal> {
        for id in policies {
            self.rely_on(RowKey::Policy(id.clone()));
        }
        let credentials = self.credentials();
        let unknown = policies.iter().find(|id| credentials.policy(id).is_none());
        unknown.map_or(Ok(()), |id| Err(AclRefusal::NoSuchPolicy(id.clone())))
    }

    pub(super) fn update_token(
        &mut self,
        token: &TokenId,
        description: &str,
        policies: &[PolicyId],
    ) -> Result<(), Refusal> {
        let old = self.credentials().token(token).cloned().ok_or(AclRefusal::UnknownToken)?;
        self.need_policies(policies)?;
        let (description, policies) = (description.to_owned(), policies.to_vec());
        self.put(Row::Token(Token { description, policies, ..old.value.clone() }));
        Ok(())
    }

    pub(super) fn delete_token(&mut self, token: &TokenId) -> Result<(), Refusal> {
        if *token == anonymous() {
            return Err(AclRefusal::Anonymous.into());
        }
        self.credentials().token(token).ok_or(AclRefusal::UnknownToken)?;
        self.delete(&RowKey::Token(token.clone()));
        Ok(())
    }

    /// Its host's clock may be another than ours, so it is counted for how long it was there.
    pub(super) fn expire_token(&mut self, token: &TokenId) {
        self.rely_on_lapsed(RowKey::Token(token.clone()));
        self.delete(&RowKey::Token(token.clone()));
    }

    pub(super) fn create_policy(&mut self, policy: &Policy) -> Result<(), Refusal> {
        if self.credentials().policy(&policy.id).is_some() {
            // Ids are chosen by chance.
            return Err(Refusal::Conflict);
        }
        self.put_policy(policy)
    }

    pub(super) fn update_policy(&mut self, policy: &Policy) -> Result<(), Refusal> {
        let old = self.credentials().policy(&policy.id).cloned().ok_or(AclRefusal::UnknownPolicy)?;
        if policy.id == global_management() && policy.rules != old.rules {
            return Err(AclRefusal::BuiltinRules.into());
        }
        self.put_policy(policy)
    }

    fn put_policy(&mut self, policy: &Policy) -> Result<(), Refusal> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if !(1..=MAX_NAME_BYTES).contains(&policy.name.len()) || !policy.name.bytes().all(fits) {
            return Err(AclRefusal::Name.into());
        }
        if self.credentials().policy_named(&policy.name).is_some_and(|other| other.id != policy.id) {
            return Err(AclRefusal::NameTaken(policy.name.clone()).into());
        }
        Rules::parse(&policy.rules).map_err(AclRefusal::Rules)?;
        self.put(Row::Policy(policy.clone()));
        Ok(())
    }

    pub(super) fn delete_policy(&mut self, id: &PolicyId) -> Result<(), Refusal> {
        if *id == global_management() {
            return Err(AclRefusal::Builtin.into());
        }
        let credentials = self.credentials();
        credentials.policy(id).ok_or(AclRefusal::UnknownPolicy)?;
        let having: Vec<_> = credentials.tokens().filter(|token| token.policies.contains(id)).cloned().collect();
        for token in having {
            let policies = token.policies.iter().filter(|other| *other != id).cloned().collect();
            self.put(Row::Token(Token { policies, ..token.value.clone() }));
        }
        self.delete(&RowKey::Policy(id.clone()));
        Ok(())
    }
}
