//! What is wanted of a list, which the registry narrows and sorts.

use super::Call;

/// What is wanted of a list. Not every list knows everything; what a list does not know is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Only instances all of whose checks pass.
    pub passing: bool,
    /// Only instances with all of these tags.
    pub tags: Vec<String>,
    /// Only of hosts with all of these pairs of metadata, `KEY:VALUE`.
    pub node_meta: Vec<String>,
    /// Only what this expression is true of.
    pub filter: Option<String>,
    /// Nearest to this host first.
    pub near: Option<String>,
}

impl Select {
    /// Adds the parameters that each list knows.
    pub(super) fn common<'a>(&self, mut call: Call<'a>) -> Call<'a> {
        for pair in &self.node_meta {
            call = call.with("node-meta", pair);
        }
        if let Some(filter) = &self.filter {
            call = call.with("filter", filter);
        }
        call
    }

    /// The same for lists of hosts or of what is on them.
    pub(super) fn placed<'a>(&self, call: Call<'a>) -> Call<'a> {
        let call = self.common(call);
        if let Some(near) = &self.near { call.with("near", near) } else { call }
    }
}
