//! An encrypted mesh that gives containers on different hosts addresses that reach each other. The registry is all that
//! a host must be told of: hosts publish themselves there and watch each other.

pub mod device;
pub mod keys;
