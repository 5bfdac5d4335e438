//! Calls of `/v1/acl`.

use super::{Call, Client};
use crate::{
    Error,
    types::{AclPolicy, AclToken},
};

impl Client {
    /// `PUT /v1/acl/bootstrap`: makes the first token, which may everything.
    ///
    /// # Errors
    /// [`Error::Status`] 403 with the reset index if that was done before, 401 if there is no access control.
    pub async fn acl_bootstrap(&self) -> Result<AclToken, Error> {
        Ok(self.read(Call::put(&["acl", "bootstrap"])).await?.value)
    }

    /// `PUT /v1/acl/token`: makes a token; the answer has its secret.
    ///
    /// # Errors
    /// [`Error::Status`] 400 if an id is taken or a policy is not there.
    pub async fn acl_token_create(&self, token: &AclToken) -> Result<AclToken, Error> {
        Ok(self.read(Call::put(&["acl", "token"]).json(token)).await?.value)
    }

    /// `GET /v1/acl/token/ACCESSOR`.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such token.
    pub async fn acl_token_read(&self, accessor: &str) -> Result<AclToken, Error> {
        Ok(self.read(Call::get(&["acl", "token", accessor])).await?.value)
    }

    /// `GET /v1/acl/token/self`: the token of this client.
    ///
    /// # Errors
    /// [`Error::Status`] 403 if the registry does not know it.
    pub async fn acl_token_self(&self) -> Result<AclToken, Error> {
        self.acl_token_read("self").await
    }

    /// `PUT /v1/acl/token/ACCESSOR`: changes what a token is for.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such token, 400 if a policy is not there.
    pub async fn acl_token_update(&self, token: &AclToken) -> Result<AclToken, Error> {
        Ok(self.read(Call::put(&["acl", "token", &token.accessor_id]).json(token)).await?.value)
    }

    /// `PUT /v1/acl/token/ACCESSOR/clone`: makes a token that may the same; the answer has its secret.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such token.
    pub async fn acl_token_clone(&self, accessor: &str, description: &str) -> Result<AclToken, Error> {
        let body = AclToken { description: description.into(), ..AclToken::default() };
        Ok(self.read(Call::put(&["acl", "token", accessor, "clone"]).json(&body)).await?.value)
    }

    /// `DELETE /v1/acl/token/ACCESSOR`.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such token.
    pub async fn acl_token_delete(&self, accessor: &str) -> Result<(), Error> {
        self.write(Call::delete(&["acl", "token", accessor])).await
    }

    /// `GET /v1/acl/tokens`: every token, by accessor id.
    ///
    /// # Errors
    /// [`Error`] if the registry does not answer.
    pub async fn acl_token_list(&self) -> Result<Vec<AclToken>, Error> {
        Ok(self.read(Call::get(&["acl", "tokens"])).await?.value)
    }

    /// `PUT /v1/acl/policy`: makes a policy.
    ///
    /// # Errors
    /// [`Error::Status`] 400 with line and column if its rules are none, or its name is taken.
    pub async fn acl_policy_create(&self, policy: &AclPolicy) -> Result<AclPolicy, Error> {
        Ok(self.read(Call::put(&["acl", "policy"]).json(policy)).await?.value)
    }

    /// `GET /v1/acl/policy/ID`.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such policy.
    pub async fn acl_policy_read(&self, id: &str) -> Result<AclPolicy, Error> {
        Ok(self.read(Call::get(&["acl", "policy", id])).await?.value)
    }

    /// `GET /v1/acl/policy/name/NAME`.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such policy.
    pub async fn acl_policy_read_by_name(&self, name: &str) -> Result<AclPolicy, Error> {
        Ok(self.read(Call::get(&["acl", "policy", "name", name])).await?.value)
    }

    /// `PUT /v1/acl/policy/ID`: puts another policy in the place of one.
    ///
    /// # Errors
    /// As [`Client::acl_policy_create`], and 404 if there is no such policy.
    pub async fn acl_policy_update(&self, policy: &AclPolicy) -> Result<AclPolicy, Error> {
        Ok(self.read(Call::put(&["acl", "policy", &policy.id]).json(policy)).await?.value)
    }

    /// `DELETE /v1/acl/policy/ID`: the tokens that have it lose it.
    ///
    /// # Errors
    /// [`Error::Status`] 404 if there is no such policy.
    pub async fn acl_policy_delete(&self, id: &str) -> Result<(), Error> {
        self.write(Call::delete(&["acl", "policy", id])).await
    }

    /// `GET /v1/acl/policies`: every policy, by id, without the rules.
    ///
    /// # Errors
    /// [`Error`] if the registry does not answer.
    pub async fn acl_policy_list(&self) -> Result<Vec<AclPolicy>, Error> {
        Ok(self.read(Call::get(&["acl", "policies"])).await?.value)
    }
}
