//! Tells systemd how all jobs stand.

use std::time::Duration;

use kvstore_client::systemd::Systemd;
use tokio::{sync::watch, time::interval};
use tokio_util::sync::CancellationToken;

use crate::progress::Standing;

/// While not all is live, systemd is asked every so often to wait so much longer.
const ASK_EVERY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells of every change until `stop`, of the first time that all is live, and that we live.
pub(crate) async fn follow(systemd: Systemd, mut progress: watch::Receiver<Standing>, stop: CancellationToken) {
    let mut ready = false;
    let mut alive = interval(systemd.watchdog.unwrap_or(Duration::from_hours(1)) / 2);
    let mut patience = interval(ASK_EVERY);
    loop {
        let standing = progress.borrow_and_update().clone();
        if standing.is_complete() && !ready {
            ready = true;
            systemd.tell("READY=1");
        }
        systemd.tell(&format!("STATUS={standing}"));
        loop {
            tokio::select! {
                () = stop.cancelled() => return systemd.tell("STOPPING=1"),
                changed = progress.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = alive.tick(), if systemd.watchdog.is_some() => systemd.tell("WATCHDOG=1"),
                _ = patience.tick(), if !ready => {
                    systemd.tell(&format!("EXTEND_TIMEOUT_USEC={}", PATIENCE.as_micros()));
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
        let following = tokio::spawn(follow(systemd, progress.subscribe(), stop.clone()));
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
}
