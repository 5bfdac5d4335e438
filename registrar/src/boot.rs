//! Which boot of this host this is. Containers do not outlive one, so what was registered in a former one does not run:
//! that is known at once, also while Docker does not answer.

use std::{fs, sync::Arc, time::Duration};

use kvstore_client::{Backoff, Error, with_causes};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use crate::{
    docker::Target,
    plan::{Action, Actual, Hold, META_BOOT, META_MARK, Mark},
    registry::{Place, Registry},
};

const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The boot of Docker's host: ours, or not known, if Docker is not behind a socket of this host.
pub fn of_docker(target: &Target) -> Option<String> {
    target.address.strip_prefix("unix://")?;
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Removes what the registrar with this `state` registered in other boots than `boot`, once, while Docker does not answer;
/// whoever listens to Docker does the rest. Where the host is a node of its own, that has lapsed without our doing.
pub async fn remove_former(
    registry: Arc<Registry>,
    state: String,
    boot: String,
    mut docker: watch::Receiver<Option<Mark>>,
) {
    if *registry.place() != Place::Agent {
        return;
    }
    let mut backoff = Backoff::between(Duration::from_millis(100), MAX_BACKOFF);
    let removing = async {
        while let Err(error) = remove(&registry, &state, &boot).await {
            // Who follows the registry tells of it if it is away.
            if error.status().is_some() {
                warn!("what a former boot left behind is not removed yet: {}", with_causes(&error));
            }
            sleep(backoff.delay()).await;
        }
    };
    tokio::select! {
        () = removing => {}
        _ = docker.wait_for(Option::is_some) => {}
    }
}

async fn remove(registry: &Registry, state: &str, boot: &str) -> Result<(), Error> {
    let former = registry.of_agent().await?.into_iter().filter(|(id, actual)| is_former(id, actual, state, boot));
    for (id, actual) in former {
        match registry.perform_at_agent(&id, &Action::Deregister).await {
            Err(error) if error.status() != Some(404) => return Err(error),
            _ => info!(service = actual.name, id, cause = "this host was started anew", "deregistered"),
        }
    }
    Ok(())
}

/// What is kept to be seen, though its container has ended, stays.
fn is_former(id: &str, actual: &Actual, state: &str, boot: &str) -> bool {
    let ours = actual.meta.get(META_MARK).and_then(|mark| mark.rsplit_once('/')).is_some_and(|(_, its)| its == state);
    let another = actual.meta.get(META_BOOT).is_some_and(|its| its != boot);
    ours && another && state != "-" && !actual.checks.contains_key(&Hold::Exited.check_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_known_on_the_same_host_only() {
        let of = |address: &str| of_docker(&Target { address: address.into(), certificates: None });
        assert!(of("unix:///var/run/docker.sock").is_some_and(|id| id.len() == 36));
        assert_eq!((of("tcp://10.0.0.1:2375"), of("https://h")), (None, None));
    }

    #[test]
    fn only_ours_and_only_of_another_boot() {
        let entry = |mark: &str, boot: Option<&str>| {
            let boot = boot.map(|boot| (META_BOOT.to_owned(), boot.to_owned()));
            let meta = [(META_MARK.to_owned(), mark.to_owned())].into_iter().chain(boot).collect();
            Actual { meta, ..Actual::default() }
        };
        for (mark, boot, state, former) in [
            ("D/me", Some("old"), "me", true),
            ("D/me", Some("now"), "me", false),
            ("D/me", None, "me", false),
            ("D/other", Some("old"), "me", false),
            ("D/some", Some("old"), "me", false),
            ("D/-", Some("old"), "-", false),
        ] {
            assert_eq!(is_former("id", &entry(mark, boot), state, "now"), former, "{mark} {boot:?}");
        }
        let mut kept = entry("D/me", Some("old"));
        kept.checks.insert(Hold::Exited.check_id("id"), kvstore_client::types::CheckStatus::Critical);
        assert!(!is_former("id", &kept, "me", "now"));
        assert!(!is_former("id", &Actual::default(), "me", "now"), "nobody's");
    }
}
