//! `kvstore release`: which version of a service is live.

use std::collections::BTreeMap;

use kvstore_client::{
    Client, KvPut,
    types::{CheckStatus, ServiceEntry},
};
use kvstore_core::version::{META, RELEASES};
use serde::{Deserialize, Serialize};

use super::{
    failure::Failure,
    format::FormatArgs,
    registry::RegistryArgs,
    table::{columns, row},
};

/// What was live when: a list, newest first.
const HISTORY: &str = "release-history/";

/// So many entries of a history are kept.
const REMEMBERED: usize = 100;

/// How often a history is tried to be written while others write it too.
const ATTEMPTS: usize = 10;

/// Says which version of a service is live, or shows it.
///
/// Instances tell their version as `version` in their metadata. Who asks for a service, over DNS or with ?for=ADDRESS
/// over HTTP, and has a version of its own gets instances of the same version; all others get the live one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore release                      what is live
  kvstore release web                  the versions of web there are, and which is live
  kvstore release web v2               from now on v2 is live
  kvstore release web --clear          no version is: whoever has none gets all
  kvstore release web --history        what was live when

The live version is the key release/web; a version without a passing instance is never chosen.
Exit codes: 0 done; 1 no such service, or no answer; 2 the command is wrong.")]
pub(super) struct Args {
    /// The service.
    #[arg(required_if_eq_any([("clear", "true"), ("history", "true")]))]
    service: Option<String>,
    /// The version that is to be live.
    version: Option<String>,
    /// Let no version be live.
    #[arg(long, conflicts_with = "version")]
    clear: bool,
    /// Show what was live when.
    #[arg(long, conflicts_with_all = ["version", "clear"])]
    history: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// One change of what is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Release {
    /// None: no version was from then on.
    version: Option<String>,
    /// RFC 3339.
    at: String,
    /// `USER@HOST`, as far as they are known.
    by: String,
}

/// A version of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    /// Empty: instances without one.
    #[serde(rename = "Version")]
    name: String,
    instances: usize,
    passing: usize,
    live: bool,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    let Some(service) = args.service.map(|name| name.to_lowercase()) else {
        return Ok(args.format.show(&all(&client).await?, |live| {
            let head = row(["Service", "Live"]);
            let shown = live.iter().map(|(service, version)| row([service, version]));
            columns(&std::iter::once(head).chain(shown).collect::<Vec<_>>())
        }));
    };
    if args.history {
        return Ok(args.format.show(&history(&client, &service).await?.1[..], shown_history));
    }
    if args.clear || args.version.is_some() {
        return change(&client, &service, args.version).await;
    }
    let versions = versions(&client, &service).await?;
    if versions.is_empty() {
        return Err(Failure::new(format!("there is no service {service:?}")).hint("kvstore catalog services"));
    }
    Ok(args.format.show(&versions[..], shown_versions))
}

fn shown_versions(versions: &[Version]) -> String {
    let head = row(["Version", "Instances", "Passing", "Live"]);
    let shown = versions.iter().map(|version| {
        let name = if version.name.is_empty() { "-" } else { &version.name };
        let live = if version.live { "yes" } else { "" };
        row([name, &version.instances.to_string(), &version.passing.to_string(), live])
    });
    columns(&std::iter::once(head).chain(shown).collect::<Vec<_>>())
}

fn shown_history(releases: &[Release]) -> String {
    let head = row(["At", "Version", "By"]);
    let shown = releases.iter().map(|r| row([&r.at, r.version.as_deref().unwrap_or("-"), &r.by]));
    columns(&std::iter::once(head).chain(shown).collect::<Vec<_>>())
}

/// The live version of each service that has one.
async fn all(client: &Client) -> Result<BTreeMap<String, String>, Failure> {
    let entries = client.kv_list(RELEASES, None).await?.value;
    let live = entries.into_iter().map(|entry| {
        let service = entry.key.strip_prefix(RELEASES).unwrap_or(&entry.key).to_owned();
        (service, text(&entry.value))
    });
    Ok(live.collect())
}

async fn live(client: &Client, service: &str) -> Result<Option<String>, Failure> {
    let entry = client.kv_get(&format!("{RELEASES}{service}"), None).await?.value;
    Ok(entry.map(|entry| text(&entry.value)))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim().to_owned()
}

async fn versions(client: &Client, service: &str) -> Result<Vec<Version>, Failure> {
    let live = live(client, service).await?;
    let entries = client.health_service(service, false, None).await?.value;
    let mut versions = BTreeMap::<String, Version>::new();
    for entry in &entries {
        let version = version_of(entry);
        let counted = versions.entry(version.clone()).or_insert_with(|| {
            let live = live.as_deref() == Some(&version);
            Version { name: version, instances: 0, passing: 0, live }
        });
        counted.instances += 1;
        counted.passing += usize::from(entry.checks.iter().all(|check| check.status == CheckStatus::Passing));
    }
    Ok(versions.into_values().collect())
}

fn version_of(entry: &ServiceEntry) -> String {
    entry.service.meta.as_ref().and_then(|meta| meta.get(META)).cloned().unwrap_or_default()
}

/// The index of the history's key, 0 without one, and what it says.
async fn history(client: &Client, service: &str) -> Result<(u64, Vec<Release>), Failure> {
    let key = format!("{HISTORY}{service}");
    let Some(entry) = client.kv_get(&key, None).await?.value else { return Ok((0, Vec::new())) };
    let releases = serde_json::from_slice(&entry.value).map_err(|error| {
        Failure::new(format!("the key {key:?} is not a history: {error}")).hint(format!("kvstore kv delete {key}"))
    })?;
    Ok((entry.modify_index, releases))
}

/// Writes the history first: what is live was always asked for by somebody.
async fn change(client: &Client, service: &str, version: Option<String>) -> Result<Vec<u8>, Failure> {
    let there = versions(client, service).await?;
    remember(client, service, version.clone()).await?;
    let key = format!("{RELEASES}{service}");
    let Some(version) = version else {
        client.kv_delete(&key, false, None).await?;
        return Ok(format!("No version of {service} is live: who has none gets all\n").into());
    };
    client.kv_put(&key, version.clone(), KvPut::default()).await?;
    let passing = there.iter().find(|other| other.name == version).map_or(0, |version| version.passing);
    let note = match passing {
        0 => "; no instance of it passes yet, so until then all are given out".to_owned(),
        1 => ", one instance of it passes".to_owned(),
        many => format!(", {many} instances of it pass"),
    };
    Ok(format!("{version} of {service} is live{note}\n").into())
}

async fn remember(client: &Client, service: &str, version: Option<String>) -> Result<(), Failure> {
    let release = Release { version, at: jiff::Timestamp::now().strftime("%FT%TZ").to_string(), by: somebody() };
    for _ in 0..ATTEMPTS {
        let (index, mut releases) = history(client, service).await?;
        releases.insert(0, release.clone());
        releases.truncate(REMEMBERED);
        let json = serde_json::to_vec(&releases).expect("texts are JSON");
        let put = KvPut { cas: Some(index), ..KvPut::default() };
        if client.kv_put(&format!("{HISTORY}{service}"), json, put).await? {
            return Ok(());
        }
    }
    Err(Failure::new(format!("the history of {service} is being written by others all the time")).hint("try again"))
}

fn somebody() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}@{}", user.as_deref().unwrap_or("?"), host.as_deref().unwrap_or("?"))
}
