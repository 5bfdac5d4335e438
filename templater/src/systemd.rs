//! Tells systemd how we do, if it wants to know (`Type=notify`, `WatchdogSec=`): a few words over its datagram socket.

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
    time::Duration,
};

use tokio::{sync::watch, time::interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::progress::Standing;

/// What systemd tells by; not for programs that we start.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// While not all is live, systemd is asked every so often to wait so much longer.
const ASK_EVERY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who wants to know.
#[derive(Debug)]
pub(crate) struct Systemd {
    socket: UnixDatagram,
    /// Without a sign of life for this long we are killed.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment says; `None` if nobody wants to know.
    pub(crate) fn from_environment() -> Option<Self> {
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

    fn connect(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
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

    /// Nobody listens any more, or too slowly: that is no trouble of ours.
    fn tell(&self, text: &str) {
        let _ = self.socket.send(text.as_bytes());
    }

    /// Tells of every change until `stop`, of the first time that all is live, and that we live.
    pub(crate) async fn follow(self, mut progress: watch::Receiver<Standing>, stop: CancellationToken) {
        let mut ready = false;
        let mut alive = interval(self.watchdog.unwrap_or(Duration::from_hours(1)) / 2);
        let mut patience = interval(ASK_EVERY);
        loop {
            let standing = progress.borrow_and_update().clone();
            if standing.is_complete() && !ready {
                ready = true;
                self.tell("READY=1");
            }
            self.tell(&format!("STATUS={standing}"));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return self.tell("STOPPING=1"),
                    changed = progress.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = alive.tick(), if self.watchdog.is_some() => self.tell("WATCHDOG=1"),
                    _ = patience.tick(), if !ready => {
                        self.tell(&format!("EXTEND_TIMEOUT_USEC={}", PATIENCE.as_micros()));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use std::sync::Arc;

    #[tokio::test]
    async fn systemd_hears_of_readiness_status_life_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let heard = tokio::net::UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::connect(path.as_os_str(), Some(Duration::from_millis(20))).unwrap();
        let (progress, stop) = (Arc::new(Progress::default()), CancellationToken::new());
        progress.begin("/a");
        let following = tokio::spawn(systemd.follow(progress.subscribe(), stop.clone()));
        let next = async |wanted: &str| {
            let mut buffer = [0; 256];
            loop {
                let length = heard.recv(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                assert!(wanted == "READY=1" || text != "READY=1", "too early");
                if text == wanted {
                    return;
                }
            }
        };
        next("STATUS=0 of 1 live").await;
        next("EXTEND_TIMEOUT_USEC=30000000").await;
        progress.live("/a", true);
        next("READY=1").await;
        next("STATUS=1 of 1 live").await;
        next("WATCHDOG=1").await;
        stop.cancel();
        next("STOPPING=1").await;
        following.await.unwrap();
    }

    #[test]
    fn a_socket_without_a_name_in_the_file_system_will_do() {
        let name = format!("templater-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let systemd = Systemd::connect(OsStr::new(&format!("@{name}")), None).unwrap();
        systemd.tell("READY=1");
        let mut buffer = [0; 16];
        assert_eq!(heard.recv(&mut buffer).unwrap(), 7);
        assert!(Systemd::connect(OsStr::new("/nowhere/notify"), None).is_err());
    }
}
