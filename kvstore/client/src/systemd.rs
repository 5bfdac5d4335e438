//! Tells systemd how a program does, if it wants to know (`Type=notify`, `WatchdogSec=`): a few words over its datagram
//! socket. See `sd_notify(3)`.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    pin::pin,
    time::Duration,
};

use tokio::time::interval;
use tracing::warn;

/// What systemd tells by; not for programs that we start.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Somebody who wants to know.
#[derive(Debug)]
pub struct Systemd {
    socket: UnixDatagram,
    /// Without `WATCHDOG=1` for this long we are killed.
    pub watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment says; `None` if nobody wants to know.
    pub fn from_environment() -> Option<Self> {
        let socket = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = env::var("WATCHDOG_USEC").ok().filter(|_| ours).and_then(|usec| usec.parse().ok());
        match Self::connect(&socket, watchdog.map(Duration::from_micros)) {
            Ok(systemd) => Some(systemd),
            Err(error) => {
                warn!("systemd cannot be told how we do, at {}: {error}", socket.display());
                None
            }
        }
    }

    /// By the name of its socket; one that begins with `@` is not in the file system.
    ///
    /// # Errors
    /// If nobody is there.
    pub fn connect(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // It is better not to tell than to wait.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, watchdog: watchdog.filter(|w| !w.is_zero()) })
    }

    /// Tells `text`, such as `READY=1` or `STOPPING=1`. Nobody listens any more, or too slowly: that is no trouble of ours.
    pub fn tell(&self, text: &str) {
        let _ = self.socket.send(text.as_bytes());
    }

    /// Tells that all is ready, that we live, and, once `stop` is over, that we stop.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) {
        self.tell("READY=1");
        let mut alive = interval(self.watchdog.unwrap_or(Duration::from_hours(1)) / 2);
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return self.tell("STOPPING=1"),
                _ = alive.tick(), if self.watchdog.is_some() => self.tell("WATCHDOG=1"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_path_or_by_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("flotilla-{}", std::process::id());
        for (name, heard) in [
            (path.as_os_str().to_owned(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ] {
            Systemd::connect(&name, None).unwrap().tell("READY=1");
            let mut buffer = [0; 16];
            let length = heard.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1", "{}", name.display());
        }
        assert!(Systemd::connect(OsStr::new("/nowhere/notify"), None).is_err());
    }

    #[tokio::test]
    async fn who_serves_is_ready_lives_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let heard = tokio::net::UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::connect(path.as_os_str(), Some(Duration::from_millis(20))).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(systemd.serve_until(async move { stopped.await.unwrap() }));
        let next = async || {
            let mut buffer = [0; 16];
            let length = heard.recv(&mut buffer).await.unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(next().await, "READY=1");
        assert_eq!(next().await, "WATCHDOG=1");
        assert_eq!(next().await, "WATCHDOG=1");
        stop.send(()).unwrap();
        while next().await != "STOPPING=1" {}
        serving.await.unwrap();
    }

    #[test]
    fn a_watchdog_that_waits_for_no_time_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _heard = UnixDatagram::bind(&path).unwrap();
        let watchdog = |time| Systemd::connect(path.as_os_str(), time).unwrap().watchdog;
        assert_eq!(watchdog(Some(Duration::ZERO)), None);
        assert_eq!(watchdog(Some(Duration::from_mins(1))), Some(Duration::from_mins(1)));
    }
}
