//! Two hosts with everything on them, of which parts fail: what fails, and which failed requests that explains. Pure.

pub mod faults;
pub mod requests;
