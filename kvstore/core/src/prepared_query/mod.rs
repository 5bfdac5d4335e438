//! Prepared queries: questions about a service that are kept under a name, so that who asks needs to know only that.
//!
//! ```text
//! definition: what is kept          template: a name -> the definition for it, where one stands for many names
//! table: rows, and name -> row      execute: definition + State -> instances, in the order of the answer
//! ```

mod definition;
mod execute;
mod table;
mod template;

pub use crate::names::QueryId;
pub use definition::{
    Failover, FailoverTarget, HIDDEN_TOKEN, InvalidQuery, NAME_PREFIX_MATCH, PreparedQuery, QueryTtl, ServiceQuery,
    TemplateOptions,
};
pub use execute::{Ask, execute};
pub(crate) use table::Table;
pub use table::{Resolved, Unresolved};
pub use template::{InvalidTemplate, RenderError, Template};
