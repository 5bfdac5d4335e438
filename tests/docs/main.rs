//! The documentation: its reference is what the programs say of themselves, and its links lead somewhere.

mod links;
mod lints;
mod reference;
