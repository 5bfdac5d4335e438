//! How a static program looks up names of hosts and users: in the system's files and in DNS, and by nothing else.
//!
//! glibc would load a module for whatever else `/etc/nsswitch.conf` names (systemd's, mDNS...), and with it a second glibc: where
//! that is of another version, the program dies by a signal. This module has `unsafe` code, since only glibc itself can be told.

#![allow(unsafe_code)]

/// To be called first, by every program. Without effect where libraries are loaded anyway.
pub fn look_up_without_modules() {
    #[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
    {
        use std::ffi::{CStr, c_char, c_int};
        unsafe extern "C" {
            // Of nss.h: whom a database is looked up in, whatever the file says.
            fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
        }
        const SERVICES: [(&CStr, &CStr); 3] = [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")];
        for (database, services) in SERVICES {
            // SAFETY: both texts end with a zero and are never freed; no other thread is there yet to look anything up.
            unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        }
    }
}
