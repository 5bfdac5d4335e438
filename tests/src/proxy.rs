//! Real HAProxy and nginx, each with a directory of its own and no right of root needed.
