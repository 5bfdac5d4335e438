//! `kvstore reload`, `monitor`, `maint` and `operator`: looking after one agent.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use kvstore_client::{
    Client,
    types::{AgentCheck, RaftServer},
};

use super::{
    failure::Failure,
    format::FormatArgs,
    registry::RegistryArgs,
    table::{columns, row},
};

/// Has the agent read its configuration again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kvstore reload

Exit codes: 0 it is in force; 1 the agent kept its old configuration and said why; 2 the command is wrong.")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn reload(args: ReloadArgs) -> Result<Vec<u8>, Failure> {
    args.registry.client()?.reload().await?;
    Ok("Configuration reload triggered\n".into())
}

/// Follows the agent's log until interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore monitor
  kvstore monitor --log-level debug
  kvstore monitor --log-json | jq .

Exit codes: 0 the agent has ended; 1 the registry did not answer or refused; 2 the command is wrong.")]
pub(super) struct MonitorArgs {
    /// The least that is shown: trace, debug, info, warn or error.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Each line as JSON.
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Prints as lines come, not at the end.
pub(super) async fn monitor(args: MonitorArgs) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    let mut log = client.monitor(&args.log_level, args.log_json).await?;
    while let Some(piece) = log.next().await? {
        let mut out = io::stdout().lock();
        match out.write_all(&piece).and_then(|()| out.flush()) {
            Ok(()) => {}
            // A reader that has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Vec::new()),
            Err(error) => return Err(Failure::new("cannot write to standard output").because(&error)),
        }
    }
    Ok(Vec::new())
}

/// Takes the agent's node, or one instance on it, out of use and back; shows what is out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore maint                                        what is out of use, and why
  kvstore maint --enable --reason 'new kernel'         the whole node
  kvstore maint --disable
  kvstore maint --enable --service web-1 --reason 'it leaks'

Exit codes: 0 done; 1 there is no such instance, or no answer; 2 the command is wrong.")]
pub(super) struct MaintArgs {
    /// Out of use: DNS and ?passing leave it out.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Back into use.
    #[arg(long)]
    disable: bool,
    /// Why; shown to whoever asks.
    #[arg(long, value_name = "TEXT", requires = "enable", default_value = "", hide_default_value = true)]
    reason: String,
    /// The id of one instance on the agent's node, instead of the whole node.
    #[arg(long, value_name = "ID")]
    service: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn maint(args: MaintArgs) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    if !args.enable && !args.disable {
        if args.service.is_some() {
            return Err(Failure::usage("--service says what to take out of use; give --enable or --disable, too"));
        }
        return out_of_use(&client, args.format).await;
    }
    let now = if args.enable { "enabled" } else { "disabled" };
    if let Some(id) = args.service {
        client.service_maintenance(&id, args.enable, &args.reason).await?;
        return Ok(format!("Service maintenance is now {now} for {id:?}\n").into());
    }
    client.node_maintenance(args.enable, &args.reason).await?;
    Ok(format!("Node maintenance is now {now}\n").into())
}

/// The checks by which the agent takes things out of use.
async fn out_of_use(client: &Client, format: FormatArgs) -> Result<Vec<u8>, Failure> {
    let mut checks = client.agent_checks().await?;
    checks.retain(|id, _| id == NODE_CHECK || id.starts_with(INSTANCE_CHECK));
    Ok(format.show(&checks, show_out_of_use))
}

const NODE_CHECK: &str = "_node_maintenance";
const INSTANCE_CHECK: &str = "_service_maintenance:";

fn show_out_of_use(checks: &BTreeMap<String, AgentCheck>) -> String {
    let shown = checks.values().map(|check| match check.check_id.strip_prefix(INSTANCE_CHECK) {
        None => format!("Node:\n  Name:   {}\n  Reason: {}\n", check.node, check.notes),
        Some(id) => format!("Service:\n  ID:     {id}\n  Reason: {}\n", check.notes),
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// What Consul's operators look at; stand-ins, since there is no Raft here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore operator raft list-peers")]
pub(super) struct OperatorArgs {
    #[command(subcommand)]
    command: OperatorCommand,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum OperatorCommand {
    Raft(RaftArgs),
}

/// The registries as Consul shows its Raft peers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore operator raft list-peers")]
struct RaftArgs {
    #[command(subcommand)]
    command: RaftCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RaftCommand {
    ListPeers(ListPeersArgs),
}

/// Lists the registries that share one state; the one asked calls itself the leader.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kvstore operator raft list-peers\n  kvstore operator raft list-peers --format json"
)]
struct ListPeersArgs {
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn operator(args: OperatorArgs) -> Result<Vec<u8>, Failure> {
    let OperatorCommand::Raft(RaftArgs { command: RaftCommand::ListPeers(list) }) = args.command;
    let configuration = args.registry.client()?.raft_configuration().await?;
    Ok(list.format.show(&configuration, |configuration| peers(&configuration.servers)))
}

fn peers(servers: &[RaftServer]) -> String {
    let rows = servers.iter().map(|server| {
        let state = if server.leader { "leader" } else { "follower" };
        row([&server.node, &server.id, &server.address, state, &server.voter.to_string(), &server.protocol_version])
    });
    let head = row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"]);
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_use_is_shown_with_its_reason() {
        let check = |id: &str| {
            let check =
                AgentCheck { check_id: id.into(), node: "n1".into(), notes: "because".into(), ..AgentCheck::default() };
            (id.to_owned(), check)
        };
        let checks = [check(NODE_CHECK), check("_service_maintenance:web-1")].into();
        let expected = "Node:\n  Name:   n1\n  Reason: because\n\nService:\n  ID:     web-1\n  Reason: because\n";
        assert_eq!(show_out_of_use(&checks), expected);
        assert_eq!(show_out_of_use(&BTreeMap::new()), "");
    }
}
