//! `kvstore session`: leases that hold locks.

use std::time::Duration;

use kvstore_client::{
    Client, GoDuration,
    types::{Session, SessionRequest, SessionServiceCheck},
};
use serde_json::json;

use super::{
    failure::Failure,
    format::FormatArgs,
    registry::RegistryArgs,
    table::{columns, row},
};

/// Lists, makes, renews and ends sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore session list
  kvstore session create --name backup --ttl 30s
  kvstore session destroy 5a5b6a1c-...

A session holds locks until it is destroyed, its time is over without a renewal, or a check of it is critical.
Exit codes: 0 done; 1 there is no such session, or no answer; 2 the command is wrong.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(ListArgs),
    Info(InfoArgs),
    Create(CreateArgs),
    Renew(RenewArgs),
    Destroy(DestroyArgs),
}

/// Lists the sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore session list\n  kvstore session list --node host1 --format json")]
struct ListArgs {
    /// Only those of this host.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows a session.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore session info 5a5b6a1c-...")]
struct InfoArgs {
    /// Its id.
    id: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// Makes a session, and prints its id.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore session create --name backup --ttl 30s
  kvstore session create --ttl 1m --behavior delete --lock-delay 0s
  id=$(kvstore session create) && kvstore session destroy $id")]
struct CreateArgs {
    /// What it is called.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// The host it belongs to; the agent's own unless given.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    node: String,
    /// It ends when it is not renewed for this long; never unless given.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<GoDuration>,
    /// What its end does to the keys it has locked.
    #[arg(long, value_parser = ["release", "delete"], default_value = "release")]
    behavior: String,
    /// How long nobody gets a lock that its end has torn away; 15s unless given.
    #[arg(long, value_name = "DURATION")]
    lock_delay: Option<GoDuration>,
    /// A check of its host that ends it when critical, instead of serfHealth. May be repeated; empty: none.
    #[arg(long, value_name = "ID")]
    node_check: Vec<String>,
    /// A check of an instance on its host that ends it when critical. May be repeated.
    #[arg(long, value_name = "ID")]
    service_check: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Renews a session.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore session renew 5a5b6a1c-...")]
struct RenewArgs {
    /// Its id.
    id: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// Ends a session; the locks it holds are released, or their keys deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore session destroy 5a5b6a1c-...")]
struct DestroyArgs {
    /// Its id.
    id: String,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::List(args) => list(&client, args).await,
        Command::Info(args) => {
            let session = client.session_info(&args.id, None).await?.value.ok_or_else(|| absent(&args.id))?;
            Ok(args.format.show(&session, details))
        }
        Command::Create(args) => create(&client, args).await,
        Command::Renew(args) => {
            let session = client.session_renew(&args.id).await?.ok_or_else(|| absent(&args.id))?;
            Ok(args.format.show(&session, |session| format!("Session renewed: {} for {}\n", session.id, session.ttl)))
        }
        Command::Destroy(args) => destroy(&client, &args.id).await,
    }
}

fn absent(id: &str) -> Failure {
    Failure::new(format!("there is no session {id:?}")).hint("kvstore session list")
}

async fn list(client: &Client, args: ListArgs) -> Result<Vec<u8>, Failure> {
    let sessions = match &args.node {
        Some(node) => client.session_node(node, None).await?.value,
        None => client.session_list(None).await?.value,
    };
    Ok(args.format.show(&sessions[..], |sessions| {
        let head = row(["ID", "Node", "Name", "TTL", "Behavior", "LockDelay"]);
        let shown = sessions.iter().map(|session| {
            let delay = session.lock_delay.to_string();
            row([&session.id, &session.node, &session.name, ttl(session), &session.behavior, &delay])
        });
        columns(&std::iter::once(head).chain(shown).collect::<Vec<_>>())
    }))
}

fn ttl(session: &Session) -> &str {
    if session.ttl.is_empty() { "-" } else { &session.ttl }
}

fn details(session: &Session) -> String {
    let services = session.service_checks.iter().flatten().map(|check| check.id.as_str()).collect::<Vec<_>>();
    columns(&[
        row(["ID", &session.id]),
        row(["Name", &session.name]),
        row(["Node", &session.node]),
        row(["TTL", ttl(session)]),
        row(["Behavior", &session.behavior]),
        row(["LockDelay", &session.lock_delay.to_string()]),
        row(["NodeChecks", &session.node_checks.join(", ")]),
        row(["ServiceChecks", &services.join(", ")]),
        row(["CreateIndex", &session.create_index.to_string()]),
        row(["ModifyIndex", &session.modify_index.to_string()]),
    ])
}

async fn create(client: &Client, args: CreateArgs) -> Result<Vec<u8>, Failure> {
    let named = |ids: Vec<String>| ids.into_iter().filter(|id| !id.is_empty()).collect::<Vec<_>>();
    let node_checks = (!args.node_check.is_empty()).then(|| named(args.node_check));
    let of_service = |id| SessionServiceCheck { id, ..SessionServiceCheck::default() };
    let service_checks: Vec<_> = named(args.service_check).into_iter().map(of_service).collect();
    let request = SessionRequest {
        name: args.name,
        node: args.node,
        // On the wire a number below 1000 counts seconds, so the delay goes as a text.
        lock_delay: args.lock_delay,
        behavior: args.behavior,
        ttl: args.ttl.filter(|ttl| ttl.0 > Duration::ZERO),
        node_checks,
        service_checks: (!service_checks.is_empty()).then_some(service_checks),
    };
    let id = client.session_create(&request).await?;
    Ok(args.format.show(&json!({"ID": id}), |_| format!("{id}\n")))
}

/// The API calls it a success when there is no such session; people would like to know.
async fn destroy(client: &Client, id: &str) -> Result<Vec<u8>, Failure> {
    client.session_info(id, None).await?.value.ok_or_else(|| absent(id))?;
    client.session_destroy(id).await?;
    Ok(format!("Session destroyed: {id}\n").into())
}
