//! What runs, and what everybody says who is asked about it.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use flotilla_tests::{dig::dig_from, wait::poll, web};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::site::{Machine, NETWORK, Site};
use crate::stage::same;

/// Once nothing fails any more all agree within this, on the busiest machine. A host that was taken for dead is heard again
/// after a third of 15 s; what is lost right after an absence of the registry is believed after 10 s.
const QUIET: Duration = Duration::from_mins(3);

/// What really runs: names, short ids and addresses of containers.
#[derive(Debug, Default)]
struct Running {
    names: BTreeSet<String>,
    ids: BTreeSet<String>,
    addresses: BTreeSet<String>,
}

/// Waits until all say what runs, and nothing else; how long that took.
///
/// # Errors
/// What the difference was at last.
pub(super) async fn all_agree(site: &mut Site) -> Result<Duration, String> {
    let start = Instant::now();
    poll("all say what runs, and nothing else", QUIET, async || {
        let mut running = Running::default();
        for machine in &mut site.machines {
            machine.all_run();
            runs(machine, &mut running).await?;
        }
        for machine in &site.machines {
            let at = |what: &str| format!("{what} at h{}", machine.number + 1);
            catalog(site, machine, &running, &at).await?;
            let behind = behind(&machine.socket()).await?;
            same(&at("HAProxy's servers"), &behind, &running.addresses)?;
        }
        for machine in &site.machines {
            let (url, times) = (machine.url(), 4 * running.ids.len());
            let answered =
                site.bed.host(machine.number).run(async move { web::who_answers(&url, times).await }).await?;
            let answered = answered.into_iter().map(|hello| hello.id).collect();
            same(&format!("those who answer through HAProxy at h{}", machine.number + 1), &answered, &running.ids)?;
        }
        Ok::<_, String>(())
    })
    .await?;
    Ok(start.elapsed())
}

/// What Docker says, and the kernel confirms; it must be what the story wants to run.
async fn runs(machine: &Machine, running: &mut Running) -> Result<(), String> {
    let ids = machine.docker.try_docker(&["ps", "--quiet", "--filter", "label=web"]).await.ok()?;
    let mut args = vec!["inspect"];
    args.extend(ids.split_whitespace());
    let all = if args.len() == 1 { "[]".to_owned() } else { machine.docker.try_docker(&args).await.ok()? };
    let all: Vec<Value> = serde_json::from_str(&all).map_err(|e| format!("docker inspect: {e}"))?;
    let mut names = BTreeSet::new();
    for container in &all {
        let text = |path: &str| container.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text("/Name").trim_start_matches('/').to_owned();
        let pid = container.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or_default();
        if pid == 0 || !Path::new(&format!("/proc/{pid}")).exists() {
            return Err(format!("Docker says that {name} runs, as process {pid}, which there is not"));
        }
        running.ids.insert(text("/Id").chars().take(12).collect());
        running.addresses.insert(text(&format!("/NetworkSettings/Networks/{NETWORK}/IPAddress")));
        names.insert(name);
    }
    let wanted = machine.containers.iter().cloned().collect();
    same(&format!("the containers that run on h{}", machine.number + 1), &names, &wanted)?;
    running.names.extend(names);
    Ok(())
}

/// The registry of a host by HTTP and by DNS.
async fn catalog(
    site: &Site,
    machine: &Machine,
    running: &Running,
    at: &impl Fn(&str) -> String,
) -> Result<(), String> {
    let host = site.bed.host(machine.number);
    let read = async |path: &str| {
        let url = format!("{}{path}", machine.registry());
        let text = host.run(async move { web::get(&url).await }).await?;
        serde_json::from_str::<Value>(&text).map_err(|e| format!("{path}: {e}"))
    };
    for path in ["/v1/health/service/web?passing", "/v1/health/service/web"] {
        let found = read(path).await?;
        let entries = found.as_array().ok_or("no list")?;
        let service = |entry: &Value, key: &str| entry["Service"][key].as_str().unwrap_or_default().to_owned();
        let addresses: BTreeSet<_> = entries.iter().map(|entry| service(entry, "Address")).collect();
        same(&at(path), &addresses, &running.addresses)?;
        let ids: BTreeSet<_> = entries.iter().map(|entry| service(entry, "ID")).collect();
        let named = |name: &String| format!("{}:{name}:8080", &name[..2]);
        same(&at(path), &ids, &running.names.iter().map(named).collect())?;
        same(&at("the number of instances"), &entries.len(), &running.names.len())?;
    }
    // Names in the network, too; nothing is left of services that were there for a moment.
    let found = read("/v1/catalog/services").await?;
    let services: BTreeSet<_> = found.as_object().ok_or("no object")?.keys().cloned().collect();
    let named = |name: &String| format!("{name}.{NETWORK}.overlay");
    let mut wanted: BTreeSet<_> = running.names.iter().map(named).collect();
    wanted.extend(["consul".to_owned(), "web".to_owned()]);
    same(&at("the services"), &services, &wanted)?;
    let dns = dig_from(host, (host.address, 53).into(), "web.service.consul", "A").await?;
    same(&at("DNS's answer"), &dns.records.into_iter().collect(), &running.addresses)
}

/// The addresses of the servers that a running HAProxy sends visitors to.
async fn behind(socket: &Path) -> Result<BTreeSet<String>, String> {
    let said = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"show servers state web\n").await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok::<_, std::io::Error>(said)
    };
    let said = said.await.map_err(|e| format!("HAProxy's socket: {e}"))?;
    let mut lines = said.lines().skip_while(|line| !line.starts_with("# "));
    let columns: Vec<_> = lines.next().ok_or(format!("no servers: {said}"))?.split(' ').skip(1).collect();
    let mut found = BTreeSet::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').collect();
        let of = |name: &str| columns.iter().position(|column| *column == name).and_then(|n| words.get(n)).copied();
        // Flags of why nobody is sent there: then it is a place without an instance. 4 only tells that it once was one.
        let state: u32 = of("srv_admin_state").and_then(|state| state.parse().ok()).ok_or("no state")?;
        if state & !4 == 0 {
            found.insert(of("srv_addr").ok_or("no address")?.to_owned());
        }
    }
    Ok(found)
}
