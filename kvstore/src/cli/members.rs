//! `kvstore members`, `join`, `leave`, `force-leave`: who runs a registry beside this one.

use kvstore_client::types::Member;
use regex::Regex;

use super::{
    failure::Failure,
    format::FormatArgs,
    registry::RegistryArgs,
    table::{columns, pairs, row},
};

/// Lists the hosts that run a registry on the same state.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore members
  kvstore members --detailed                what else they tell about themselves
  kvstore members --status 'alive|failed'
  kvstore members --format json

Exit codes: 0 listed; 1 the registry did not answer; 2 no member matches, or the command is wrong.")]
pub(super) struct Args {
    /// All that they tell about themselves.
    #[arg(long)]
    detailed: bool,
    /// Only those in a state that matches: alive, leaving, left, failed.
    #[arg(long, value_name = "REGEX", default_value = ".*", hide_default_value = true)]
    status: String,
    /// Those of other datacenters, too.
    #[arg(long)]
    wan: bool,
    /// Accepted: there are no segments.
    #[arg(long, hide = true)]
    segment: Option<String>,
    /// Only those of which this expression is true, where the registry knows filters of members.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let status = Regex::new(&format!("^(?:{})$", args.status))
        .map_err(|e| Failure::usage(format!("--status {:?} is no regular expression", args.status)).because(&e))?;
    let mut members = args.registry.client()?.members(args.wan, args.filter.as_deref()).await?;
    members.retain(|member| status.is_match(state(member)));
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if members.is_empty() {
        return Err(Failure::new("no member matches").exiting(2).hint("kvstore members without --status and --filter"));
    }
    Ok(args.format.show(&members[..], if args.detailed { detailed } else { brief }))
}

fn state(member: &Member) -> &'static str {
    match member.status {
        0 => "none",
        1 => "alive",
        2 => "leaving",
        3 => "left",
        4 => "failed",
        _ => "unknown",
    }
}

fn address(member: &Member) -> String {
    let (addr, port) = (&member.addr, member.port);
    if addr.contains(':') { format!("[{addr}]:{port}") } else { format!("{addr}:{port}") }
}

fn brief(members: &[Member]) -> String {
    let head = row(["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"]);
    let rows = members.iter().map(|member| {
        let tag = |name: &str| member.tags.get(name).map_or("", String::as_str);
        let kind = match tag("role") {
            "consul" => "server",
            "node" => "client",
            _ => "unknown",
        };
        let build = tag("build").split(':').next().unwrap_or_default();
        let partition = Some(tag("ap")).filter(|p| !p.is_empty()).unwrap_or("default");
        let segment = match (tag("segment"), kind) {
            ("", "server") => "<all>",
            ("", _) => "<default>",
            (segment, _) => segment,
        };
        let (address, protocol) = (address(member), tag("vsn"));
        row([&member.name, &address, state(member), kind, build, protocol, tag("dc"), partition, segment])
    });
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn detailed(members: &[Member]) -> String {
    let rows = members
        .iter()
        .map(|member| row([&member.name, &address(member), state(member), &pairs(Some(&member.tags), ",")]));
    columns(&std::iter::once(row(["Node", "Address", "Status", "Tags"])).chain(rows).collect::<Vec<_>>())
}

/// Asks whether hosts are members; registries here do not join by gossip.
///
/// Those that share one state are members of themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore join 10.0.0.5\n  kvstore join host1:8301 host2:8301")]
pub(super) struct JoinArgs {
    /// A member's name or address.
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Of another datacenter.
    #[arg(long)]
    wan: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Counts like Consul: one success is a success of the whole, the others are told about.
pub(super) async fn join(args: JoinArgs) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    let (mut joined, mut refused) = (0, Vec::new());
    for address in &args.addresses {
        match client.join(address, args.wan).await {
            Ok(()) => joined += 1,
            Err(error @ kvstore_client::Error::Status { .. }) => refused.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    if joined == 0 {
        let last = refused.pop().map_or_else(|| Failure::new("no address given"), Failure::from);
        return Err(last.hint("kvstore agent --engine or --replica-of make several registries one"));
    }
    for error in &refused {
        eprintln!("kvstore: {error}");
    }
    Ok(format!("Successfully joined cluster by contacting {joined} nodes.\n").into())
}

/// Tells the agent to stop in order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore leave\n  kvstore leave --http-addr unix:///run/registry.sock")]
pub(super) struct LeaveArgs {
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn leave(args: LeaveArgs) -> Result<Vec<u8>, Failure> {
    args.registry.client()?.leave().await?;
    Ok("Graceful leave complete\n".into())
}

/// Takes a host that is gone out of the catalog, with all that was on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore force-leave host9
  kvstore force-leave --prune host9

Exit codes: 0 it is out; 1 there is no such host, or it is alive; 2 the command is wrong.")]
pub(super) struct ForceLeaveArgs {
    /// The host's name.
    node: String,
    /// Accepted: nothing of a host that has left is kept.
    #[arg(long)]
    prune: bool,
    /// Of another datacenter.
    #[arg(long, hide = true)]
    wan: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn force_leave(args: ForceLeaveArgs) -> Result<Vec<u8>, Failure> {
    match args.registry.client()?.force_leave(&args.node, args.prune).await? {
        None => Ok(Vec::new()),
        Some(why) => Err(Failure::new(format!("{} was not taken out: {why}", args.node))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_a_table_with_consuls_columns() {
        let tags = [("role", "consul"), ("build", "1.15.0:abc"), ("vsn", "2"), ("dc", "dc1"), ("segment", "")];
        let tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let member = Member {
            name: "n1".into(),
            addr: "fd00::1".into(),
            port: 8301,
            tags: tags.into(),
            status: 4,
            ..Member::default()
        };
        let expected = "Node  Address         Status  Type    Build   Protocol  DC   Partition  Segment\n\
                        n1    [fd00::1]:8301  failed  server  1.15.0  2         dc1  default    <all>\n";
        assert_eq!(brief(std::slice::from_ref(&member)), expected);
        assert!(detailed(&[member]).contains("failed  build=1.15.0:abc,dc=dc1,role=consul"));
    }
}
