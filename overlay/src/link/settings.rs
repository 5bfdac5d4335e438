//! The kernel's settings for the network, below `/proc/sys`, of which each namespace has its own.

use super::{LinkError, Links};

impl Links {
    /// Writes a setting of the kernel's for this namespace, such as `net/ipv4/conf/NAME/forwarding`, unless it is so.
    ///
    /// # Errors
    /// If it is not there, or `/proc/sys` cannot be written, as in a container.
    pub fn set(&self, setting: &str, value: &str) -> Result<(), LinkError> {
        if self.setting(setting)? == value {
            return Ok(());
        }
        let path = format!("/proc/sys/{setting}");
        let written = self.namespace.enter(|| std::fs::write(&path, value));
        written.flatten().map_err(|e| LinkError::refused(format!("write {value} to {path}"), e))
    }

    /// The value of such a setting, without the line break.
    ///
    /// # Errors
    /// If it is not there.
    pub fn setting(&self, setting: &str) -> Result<String, LinkError> {
        let path = format!("/proc/sys/{setting}");
        let read = self.namespace.enter(|| std::fs::read_to_string(&path)).flatten();
        read.map(|text| text.trim_end().to_owned()).map_err(|e| LinkError::refused(format!("read {path}"), e))
    }

    /// Whether a link has IPv6, which is turned on for it where it can be.
    pub fn has_ipv6(&self, name: &str) -> bool {
        let setting = format!("net/ipv6/conf/{name}/disable_ipv6");
        self.setting(&setting).is_ok_and(|value| value == "0" || self.set(&setting, "0").is_ok())
    }
}
