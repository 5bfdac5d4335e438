//! Keeps nothing: for development and tests.

use kvstore_core::Index;

use super::{Commit, Engine, EngineError, Entry, Loaded, Proposal, Rejected};

/// Orders only; a restart begins with an empty registry.
#[derive(Debug)]
pub struct Memory {
    index: Index,
    log: Vec<Entry>,
}

impl Memory {
    /// A fresh store whose first change comes after `index`.
    pub fn new(index: Index) -> Self {
        Self { index, log: Vec::new() }
    }
}

impl Engine for Memory {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        Ok(Loaded { index: self.index, rows: Vec::new() })
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Rejected>>, EngineError> {
        let committed = batch.into_iter().map(|proposal| {
            self.index = proposal.changes.index_after(self.index);
            self.log.push(Entry::Commit(Commit { index: self.index, changes: proposal.changes }));
            Ok(self.index)
        });
        Ok(committed.collect())
    }

    fn log(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.log)
    }
}
