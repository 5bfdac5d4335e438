//! Calls of `/v1/kv`.
#![allow(clippy::missing_errors_doc)] // said in the parent

use bytes::Bytes;

use super::{Call, Client, Read, Wait};
use crate::{Error, GoDuration, types::KvEntry};

/// Which write `PUT /v1/kv/KEY` makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvPut {
    /// Kept with the value, without meaning to the registry.
    pub flags: u64,
    /// Compare-and-set: only if the key's `ModifyIndex` is this; 0: only if the key is absent.
    pub cas: Option<u64>,
    /// The key goes when it is not put again in time. Not in Consul.
    pub ttl: Option<GoDuration>,
}

impl Client {
    /// `GET /v1/kv/KEY`; `None` if the key is absent.
    pub async fn kv_get(&self, key: &str, wait: Option<Wait>) -> Result<Read<Option<KvEntry>>, Error> {
        let read: Read<Vec<KvEntry>> = self.read_or_404(Call::get(&["kv", key]).waiting(wait)).await?;
        Ok(Read { index: read.index, value: read.value.into_iter().next() })
    }

    /// `GET /v1/kv/PREFIX?recurse`: every key that begins with `prefix`, sorted.
    pub async fn kv_list(&self, prefix: &str, wait: Option<Wait>) -> Result<Read<Vec<KvEntry>>, Error> {
        self.read_or_404(Call::get(&["kv", prefix]).with("recurse", "").waiting(wait)).await
    }

    /// `GET /v1/kv/PREFIX?keys`: the names only; folded at the first `separator` after the prefix, if one is given.
    pub async fn kv_keys(&self, prefix: &str, separator: Option<&str>) -> Result<Read<Vec<String>>, Error> {
        let path = ["kv", prefix];
        let call = Call::get(&path).with("keys", "");
        self.read_or_404(if let Some(s) = separator { call.with("separator", s) } else { call }).await
    }

    /// `PUT /v1/kv/KEY`; false if the compare-and-set did not match.
    pub async fn kv_put(&self, key: &str, value: impl Into<Bytes>, put: KvPut) -> Result<bool, Error> {
        let path = ["kv", key];
        let mut call = Call::put(&path);
        if put.flags != 0 {
            call = call.with("flags", put.flags.to_string());
        }
        if let Some(cas) = put.cas {
            call = call.with("cas", cas.to_string());
        }
        if let Some(ttl) = put.ttl {
            call = call.with("ttl", ttl.to_string());
        }
        call.body = Some(value.into());
        Ok(self.read(call).await?.value)
    }

    /// `PUT /v1/kv/KEY?acquire=SESSION`; false if another session holds the lock, or it was torn from one too lately.
    pub async fn kv_acquire(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        flags: u64,
        session: &str,
    ) -> Result<bool, Error> {
        self.kv_lock("acquire", key, value.into(), flags, session).await
    }

    /// `PUT /v1/kv/KEY?release=SESSION`; false if the session does not hold the lock.
    pub async fn kv_release(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        flags: u64,
        session: &str,
    ) -> Result<bool, Error> {
        self.kv_lock("release", key, value.into(), flags, session).await
    }

    async fn kv_lock(&self, what: &'static str, key: &str, value: Bytes, flags: u64, id: &str) -> Result<bool, Error> {
        let path = ["kv", key];
        let mut call = Call::put(&path).with(what, id).with("flags", flags.to_string());
        call.body = Some(value);
        Ok(self.read(call).await?.value)
    }

    /// `DELETE /v1/kv/KEY`; with `recurse` every key that begins with it. False if the compare-and-set did not match.
    pub async fn kv_delete(&self, key: &str, recurse: bool, cas: Option<u64>) -> Result<bool, Error> {
        let path = ["kv", key];
        let mut call = Call::delete(&path);
        if recurse {
            call = call.with("recurse", "");
        }
        if let Some(cas) = cas {
            call = call.with("cas", cas.to_string());
        }
        Ok(self.read(call).await?.value)
    }
}
