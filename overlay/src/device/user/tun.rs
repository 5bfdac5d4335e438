//! The TUN device: how it is made, and what to do where it cannot be.

use std::io;

use nix::{errno::Errno, net::if_::if_nametoindex};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::device::{DeviceError, NO_RIGHT, Settings, TAKEN};

/// Makes the interface and brings it up, without addresses.
///
/// # Errors
/// [`DeviceError`], which says what to add.
pub(super) fn open(settings: &Settings) -> Result<SyncDevice, DeviceError> {
    let name = &settings.interface;
    // Ours are gone with the process that made them, however it ended.
    if if_nametoindex(name.as_str()).is_ok() {
        return Err(settings.error(TAKEN));
    }
    let builder = DeviceBuilder::new().name(name).offload(true).mtu(settings.mtu).enable(true);
    let device = builder.build_sync().map_err(|e| settings.error(&why(&e)))?;
    device.set_nonblocking(true).map_err(|e| settings.error(&format!("the TUN device: {e}")))?;
    Ok(device)
}

fn why(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => format!("cannot make a TUN device: {NO_RIGHT}"),
        Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => "there is no /dev/net/tun; load the module (modprobe tun), and in a container pass the device on: --device /dev/net/tun to docker run".into(),
        Some(Errno::EBUSY | Errno::EINVAL | Errno::EEXIST) => TAKEN.into(),
        _ => format!("cannot make a TUN device: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        for (errno, named) in [
            (Errno::EPERM, "CAP_NET_ADMIN"),
            (Errno::EACCES, "--cap-add NET_ADMIN"),
            (Errno::ENOENT, "--device /dev/net/tun"),
            (Errno::ENXIO, "modprobe tun"),
            (Errno::EBUSY, "another name"),
            (Errno::ENOMEM, "memory"),
        ] {
            let told = why(&io::Error::from(errno));
            assert!(told.to_lowercase().contains(&named.to_lowercase()), "{errno}: {told}");
        }
    }
}
