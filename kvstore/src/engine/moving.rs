//! A whole registry out of one store and into another, while no kvstore uses it.
//!
//! Nothing is decided anew: rows go as they are, and indexes go on after the last that was given out. Rows keep the index
//! at which they were created. That of their last change they keep in a data directory; in an etcd they get a new one, above
//! all old ones, so that whoever waits for a change looks again.

// Without etcd there is nothing to wait for.
#![cfg_attr(not(feature = "etcd"), allow(unused_variables, clippy::unused_async))]

use std::{fmt, path::PathBuf};

use kvstore_core::row::{Row, Stamped};
use sha2::{Digest as _, Sha256};

use super::{Embedded, EngineError, Loaded};
#[cfg(feature = "etcd")]
use super::{EtcdAddress, etcd};

/// Where a registry is.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// In a data directory.
    DataDir(PathBuf),
    /// Below a prefix in an etcd.
    #[cfg(feature = "etcd")]
    Etcd(Box<EtcdAddress>),
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(dir) => dir.display().fmt(f),
            #[cfg(feature = "etcd")]
            Self::Etcd(address) => address.fmt(f),
        }
    }
}

impl Home {
    /// # Errors
    /// [`EngineError::Open`] if a registry is there, something else in its place, or nobody can say.
    pub(crate) async fn check_vacant(&self) -> Result<(), EngineError> {
        match self {
            Self::DataDir(dir) => Embedded::check_vacant(dir),
            #[cfg(feature = "etcd")]
            Self::Etcd(address) => etcd::check_vacant(address).await.map_err(|why| self.refuses(why)),
        }
    }

    /// Puts all of a registry there, reads it back, and opens it for kvstores. `done` hears how many rows are there.
    ///
    /// # Errors
    /// [`EngineError::Open`] as [`Home::check_vacant`]; [`EngineError::Write`] if it could not be ended: there is no registry
    /// then, and another attempt begins anew.
    pub(crate) async fn take(
        &self,
        from: &Self,
        whole: &Loaded,
        done: &(dyn Fn(usize) + Sync),
    ) -> Result<(), EngineError> {
        match self {
            Self::DataDir(dir) => {
                Embedded::create(dir, whole)?;
                done(whole.rows.len());
                Ok(())
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(address) => {
                let failed = |why: String| EngineError::Write { path: self.to_string(), source: why.into() };
                let from = from.to_string();
                let arriving = Box::pin(etcd::Arriving::begin(address, &from, whole)).await;
                let mut arriving = arriving.map_err(|why| self.refuses(why))?;
                Box::pin(arriving.put(&whole.rows, done)).await.map_err(failed)?;
                Box::pin(arriving.open(&Sum::of(&whole.rows))).await.map_err(failed)
            }
        }
    }

    #[cfg(feature = "etcd")]
    fn refuses(&self, why: String) -> EngineError {
        EngineError::Open { path: self.to_string(), why }
    }
}

/// A registry that is read to be moved.
pub(crate) struct Leaving {
    /// All of it.
    pub(crate) whole: Loaded,
    /// The keys of rows that are there and cannot be read; only an etcd can have such.
    pub(crate) unreadable: Vec<String>,
    held: Held,
}

/// What keeps others from it.
enum Held {
    /// Its lock.
    DataDir { _open: Box<Embedded> },
    #[cfg(feature = "etcd")]
    Etcd { home: Home, leaving: Box<etcd::Leaving> },
}

impl Leaving {
    /// Reads it. In an etcd nobody writes to it from then on if it is to be moved, and not only read.
    ///
    /// # Errors
    /// [`EngineError::Open`] if there is none, it is in use, or it cannot be read; it is as it was then.
    pub(crate) async fn begin(home: &Home, to: &Home, only_read: bool) -> Result<Self, EngineError> {
        match home {
            Home::DataDir(dir) => {
                use super::Engine as _;
                let mut open = Embedded::open_existing(dir)?;
                let whole = open.load()?;
                Ok(Self { whole, unreadable: Vec::new(), held: Held::DataDir { _open: Box::new(open) } })
            }
            #[cfg(feature = "etcd")]
            Home::Etcd(address) => {
                let to = to.to_string();
                let begun = Box::pin(etcd::Leaving::begin(address, &to, !only_read)).await;
                let (leaving, whole, unreadable) = begun.map_err(|why| home.refuses(why))?;
                Ok(Self { whole, unreadable, held: Held::Etcd { home: home.clone(), leaving: Box::new(leaving) } })
            }
        }
    }

    /// It stays where it was, for kvstores to use.
    ///
    /// # Errors
    /// [`EngineError::Write`] if they could not be told; it is whole nevertheless.
    pub(crate) async fn stay(self) -> Result<(), EngineError> {
        match self.held {
            Held::DataDir { .. } => Ok(()),
            #[cfg(feature = "etcd")]
            Held::Etcd { home, leaving } => {
                let told = Box::pin(leaving.stay()).await;
                told.map_err(|why| EngineError::Write { path: home.to_string(), source: why.into() })
            }
        }
    }
}

/// What rows hold: how many they are, and a hash of all their keys, contents and indexes of creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: usize,
    pub(crate) sha256: String,
}

impl Sum {
    pub(crate) fn of(rows: &[Stamped<Row>]) -> Self {
        let mut rows: Vec<_> = rows.iter().map(|row| (row.value.key().encode(), row)).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut hash = Sha256::new();
        for (key, row) in &rows {
            let content = row.value.encode_unstamped(Some(row.created));
            for part in [key.as_bytes(), &content] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let sha256 = hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Self { rows: rows.len(), sha256 }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, SHA-256 {}", self.rows, self.sha256)
    }
}
