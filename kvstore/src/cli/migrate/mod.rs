//! `kvstore migrate`: what a Consul has, into this registry, where `plan` decides what to do; or a whole registry from one
//! store into another (`stores`).

mod acl;
mod credentials;
mod plan;
mod stores;

use std::{collections::HashSet, path::PathBuf};

use kvstore_client::{
    Client, KvPut, KvWrite, MAX_KEYS,
    types::{CatalogRegistration, KvEntry, PreparedQuery},
};

use super::{
    failure::Failure,
    format::FormatArgs,
    progress,
    registry::RegistryArgs,
    table::{columns, row},
};
use plan::{Report, Step, has_agent, is_of_agent};

/// What Consul takes in one transaction is 512 KiB of JSON, in which bytes are a third longer.
const MAX_TXN_BYTES: usize = 256 << 10;

/// So many things that were left are told to people; JSON has more of them.
const MAX_TOLD: usize = 50;

/// Something was left that somebody has to look after.
const LEFT: u8 = 3;

/// Lists that have nowhere to go here, by their paths below /v1.
const NOT_CARRIED: &[(&str, &[&str], &str)] = &[
    ("acl roles", &["acl", "roles"], "there are no roles here; give tokens policies"),
    ("acl auth methods", &["acl", "auth-methods"], "nobody logs in here; give out tokens"),
    ("intentions", &["connect", "intentions"], "there is no service mesh here"),
    ("proxy defaults", &["config", "proxy-defaults"], "there is no service mesh here"),
    ("service defaults", &["config", "service-defaults"], "there is no service mesh here"),
    ("service resolvers", &["config", "service-resolver"], "there is no service mesh here"),
    ("service routers", &["config", "service-router"], "there is no service mesh here"),
    ("service splitters", &["config", "service-splitter"], "there is no service mesh here"),
    ("peerings", &["peerings"], "there are no peers here"),
];

/// Carries what a Consul has into this registry: keys, what the catalog was told of hosts without an agent, prepared
/// queries, and ACL policies and tokens with their secrets. What agents register comes by itself when they are pointed here.
///
/// It can be run again at any time: what is there already is left alone, and where something else is there, that stays
/// unless --overwrite says otherwise.
///
/// Or moves a whole registry, with everything that is in it, out of a data directory into an etcd, or back; no kvstore may
/// use it meanwhile. The place that takes it must be empty. It is opened there when all of it was read back, and what was
/// begun and not ended is not used: run it again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore migrate --from http://consul:8500 --dry-run        what would be carried, and what would not
  kvstore migrate --from http://consul:8500 --http-addr 127.0.0.1:8500
  kvstore migrate --from https://consul:8501 --from-token-file consul.token --overwrite
  kvstore migrate --from http://consul:8500 --format json > report.json
  kvstore migrate --from-data-dir /var/lib/kvstore --to etcd://10.0.0.1:2379,10.0.0.2:2379
  kvstore migrate --from etcd://10.0.0.1:2379,10.0.0.2:2379 --to-data-dir /var/lib/kvstore

The registry that takes it is named by --to, else as with every command. --token is for that one alone; files of
authorities and CONSUL_HTTP_AUTH count for both.

Exit codes: 0 all is here; 1 a registry refused or did not answer, and running it again goes on; 2 the command is wrong;
3 something was left that somebody has to look after, as the report says.")]
pub(super) struct Args {
    /// The Consul that has it; or the etcd, etcd://HOST:PORT,... as in kvstore agent --engine.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "from_data_dir")]
    from: Option<String>,
    /// The data directory that has it.
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    from_data_dir: Option<PathBuf>,
    /// File with the token for it, which may read everything; to see secrets of tokens it needs `acl = "write"`.
    #[arg(long, value_name = "FILE", env = "KVSTORE_FROM_TOKEN_FILE")]
    from_token_file: Option<PathBuf>,
    /// The registry that takes it, instead of --http-addr; or the etcd.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// The data directory that takes it.
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    to_data_dir: Option<PathBuf>,
    /// Replace what is there and differs.
    #[arg(long)]
    overwrite: bool,
    /// Carry what agents registered, too, as if nobody watched over it.
    #[arg(long)]
    all_services: bool,
    /// Write nothing, and report what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    if let Some((from, to)) = stores::homes(&args)? {
        return stores::run(&args, &from, &to).await;
    }
    let from = args.from.ok_or_else(|| Failure::usage("--from names the Consul that has it"))?;
    let from = args.registry.clone().another(from, args.from_token_file).client()?;
    let to = match args.to {
        Some(address) => args.registry.at(address),
        None => args.registry,
    };
    let Args { overwrite, all_services, dry_run, format, .. } = args;
    let to = to.client()?;
    let mut migration = Migration { from, to, overwrite, all_services, dry_run, report: Report::default() };
    migration.keys().await?;
    migration.catalog().await?;
    migration.queries().await?;
    migration.access().await?;
    migration.others().await?;
    let report = migration.report;
    let shown = format.show(&report, table);
    if report.is_whole() {
        return Ok(shown);
    }
    super::print(&shown)?;
    Err(Failure::new("something was left that was not carried; the report has it").exiting(LEFT))
}

struct Migration {
    from: Client,
    to: Client,
    overwrite: bool,
    all_services: bool,
    dry_run: bool,
    report: Report,
}

impl Migration {
    /// All keys, a few at a time: no more of their values are in memory.
    async fn keys(&mut self) -> Result<(), Failure> {
        let names = self.from.kv_keys("", None).await?.value;
        let there: HashSet<String> = self.to.kv_keys("", None).await?.value.into_iter().collect();
        let mut locks = 0;
        let done = progress::counting("keys", names.len());
        for some in names.chunks(MAX_KEYS) {
            let found = read(&self.from, some).await?;
            locks += found.iter().filter(|entry| !entry.session.is_empty()).count();
            let known: Vec<_> = found.iter().map(|entry| entry.key.clone()).filter(|key| there.contains(key)).collect();
            let known = read(&self.to, &known).await?;
            let writes = plan::keys(found, &known, self.overwrite, &mut self.report);
            if !self.dry_run {
                for batch in plan::batches(writes, MAX_KEYS, MAX_TXN_BYTES) {
                    write(&self.to, batch).await?;
                }
            }
            done.inc(some.len() as u64);
        }
        if locks > 0 {
            self.report.by_design.push(format!("{locks} keys were locked; their holders lock them anew"));
        }
        Ok(())
    }

    /// Hosts with what is on them, one at a time.
    async fn catalog(&mut self) -> Result<(), Failure> {
        let nodes = self.from.catalog_nodes(None).await?.value;
        let mut of_agents = 0;
        for node in progress::counting("nodes", nodes.len()).wrap_iter(nodes.iter()) {
            let checks = self.from.health_node(&node.node, None).await?.value;
            if has_agent(&checks) && !self.all_services {
                of_agents += 1;
                continue;
            }
            let Some(found) = self.from.catalog_node(&node.node, None).await?.value else { continue };
            let there = self.to.catalog_node(&node.node, None).await?.value;
            let checks_there = self.to.health_node(&node.node, None).await?.value;
            if has_agent(&checks_there) {
                let why = "a host with an agent has this name here, which would take away what it does not know";
                self.report.leave("nodes", &node.node, why);
                continue;
            }
            let wanted = plan::of_node(node);
            let step = self.step(
                "nodes",
                &node.node,
                &wanted,
                there.as_ref().map(|there| plan::of_node(&there.node)).as_ref(),
            );
            self.register(step, || wanted.clone()).await?;
            if step == Step::Conflict {
                continue;
            }
            for service in found.services.values().filter(|service| !is_of_agent(&service.id, "")) {
                let wanted_service = plan::of_service(service);
                let name = format!("{}/{}", node.node, service.id);
                let other = there.as_ref().and_then(|there| there.services.get(&service.id)).map(plan::of_service);
                let step = self.step("services", &name, &wanted_service, other.as_ref());
                let service = Some(wanted_service);
                self.register(step, || CatalogRegistration { service, ..wanted.clone() }).await?;
            }
            for check in checks.iter().filter(|check| !is_of_agent(&check.service_id, &check.check_id)) {
                let wanted_check = plan::of_check(check);
                let name = format!("{}/{}", node.node, check.check_id);
                let other = checks_there.iter().find(|there| there.check_id == check.check_id).map(plan::of_check);
                let step = self.step("checks", &name, &wanted_check, other.as_ref());
                let check = Some(wanted_check);
                self.register(step, || CatalogRegistration { check, ..wanted.clone() }).await?;
            }
        }
        if of_agents > 0 {
            let text =
                "hosts have an agent, which registers what it has when it is pointed here; or use --all-services";
            self.report.by_design.push(format!("{of_agents} {text}"));
        }
        Ok(())
    }

    fn step<T: PartialEq>(&mut self, kind: &'static str, name: &str, wanted: &T, there: Option<&T>) -> Step {
        let step = plan::step(wanted, there, self.overwrite);
        self.report.count(kind, name, step);
        step
    }

    async fn register(&self, step: Step, what: impl FnOnce() -> CatalogRegistration) -> Result<(), Failure> {
        if step == Step::Carry && !self.dry_run {
            self.to.catalog_register(&what()).await?;
        }
        Ok(())
    }

    /// Prepared queries, which are known by their names.
    async fn queries(&mut self) -> Result<(), Failure> {
        let found = self.from.query_list(None).await?.value;
        let there = self.to.query_list(None).await?.value;
        for query in progress::counting("queries", found.len()).wrap_iter(found.into_iter()) {
            if !query.session.is_empty() {
                self.report.leave("queries", named(&query), "it ends with a session, and sessions are not carried");
                continue;
            }
            if !query.token.is_empty() {
                self.report.leave("queries", named(&query), "it has a token, which is not carried; make it anew");
                continue;
            }
            let wanted = plan::of_query(&query);
            // One without a name is known by all that it says.
            let other = there.iter().find(|other| {
                if wanted.name.is_empty() { plan::of_query(other) == wanted } else { other.name == wanted.name }
            });
            let step = self.step("queries", named(&query), &wanted, other.map(plan::of_query).as_ref());
            match (step, other) {
                (Step::Carry, _) if self.dry_run => {}
                (Step::Carry, Some(other)) => self.to.query_update(&other.id, &wanted).await?,
                (Step::Carry, None) => drop(self.to.query_create(&wanted).await?),
                (Step::Same | Step::Conflict, _) => {}
            }
        }
        Ok(())
    }

    /// What has nowhere to go is counted.
    async fn others(&mut self) -> Result<(), Failure> {
        for (kind, path, why) in progress::counting("other lists", NOT_CARRIED.len()).wrap_iter(NOT_CARRIED.iter()) {
            match self.from.number_of(path).await {
                Ok(0) => {}
                Ok(count) => self.report.leave_all(kind, count, why),
                // Not in use there, not known there, or not for this token.
                Err(error) if error.status().is_some() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let sessions = self.from.session_list(None).await?.value.len();
        if sessions > 0 {
            self.report.by_design.push(format!("{sessions} sessions; their holders make them anew"));
        }
        Ok(())
    }
}

fn named(query: &PreparedQuery) -> &str {
    if query.name.is_empty() { &query.id } else { &query.name }
}

/// Those of `keys` that are there; all at one moment, unless one has gone meanwhile.
async fn read(client: &Client, keys: &[String]) -> Result<Vec<KvEntry>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(entries) = client.kv_read_all(keys).await? {
        return Ok(entries);
    }
    let mut entries = Vec::new();
    for key in keys {
        entries.extend(client.kv_get(key, None).await?.value);
    }
    Ok(entries)
}

/// All of `batch`, unless somebody changed one of its keys after it was read.
async fn write(client: &Client, batch: Vec<KvWrite>) -> Result<(), Failure> {
    let first = batch[0].key.clone();
    let written = match <[KvWrite; 1]>::try_from(batch) {
        // A value may be longer than a transaction.
        Ok([KvWrite { key, value, flags, cas }]) => {
            client.kv_put(&key, value, KvPut { flags, cas: Some(cas), ..KvPut::default() }).await?
        }
        Err(batch) => client.kv_write_all(&batch).await?,
    };
    let changed = || Failure::new(format!("{first:?}, or one of the keys behind it, was changed meanwhile"));
    if written { Ok(()) } else { Err(changed().hint("run it again; what was carried is not carried twice")) }
}

fn table(report: &Report) -> String {
    let head = row(["Kind", "Found", "Carried", "Same", "Left"]);
    let tallies = report.kinds.iter().map(|(kind, tally)| {
        let [found, carried, same, left] =
            [tally.found, tally.carried, tally.same, tally.left].map(|count| count.to_string());
        row([kind, &found, &carried, &same, &left])
    });
    let mut text = columns(&std::iter::once(head).chain(tallies).collect::<Vec<_>>());
    if !report.left.is_empty() {
        text += "\nLeft:\n";
        let named = report.left.iter().take(MAX_TOLD);
        text += &columns(&named.map(|left| row([left.kind, &left.name, &left.why])).collect::<Vec<_>>());
        let more = report.left.len().saturating_sub(MAX_TOLD) + report.left_unnamed;
        if more > 0 {
            text.extend(["and ", &more.to_string(), " more\n"]);
        }
    }
    if !report.by_design.is_empty() {
        text.extend(["\nNeeds nothing:\n", &report.by_design.join("\n"), "\n"]);
    }
    text
}
