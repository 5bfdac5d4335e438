//! `kvstore event`: fires events, and lists the newest.

use kvstore_client::types::UserEvent;

use super::{
    failure::Failure,
    format::FormatArgs,
    kv::read_value,
    registry::RegistryArgs,
    table::{columns, row},
};

/// Tells something to all who listen, or lists what was told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore event --name deploy v2
  kvstore event --name deploy --service web --tag blue @release.json
  kvstore event --list                     the newest 256
  kvstore event --list --name deploy --format json

Exit codes: 0 done; 1 the registry refused or did not answer; 2 the command is wrong.")]
pub(super) struct Args {
    /// What the event is called.
    #[arg(long, value_name = "NAME", required_unless_present = "list", default_value = "", hide_default_value = true)]
    name: String,
    /// Only for hosts whose name matches.
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    node: String,
    /// Only for hosts with a service whose name matches.
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    service: String,
    /// Only for hosts with such a service that has a matching tag.
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    tag: String,
    /// Lists the newest events instead.
    #[arg(long, conflicts_with_all = ["node", "service", "tag", "payload"])]
    list: bool,
    /// What is told: a text, @FILE, or - for standard input.
    #[arg(default_value = "", hide_default_value = true)]
    payload: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    if args.list {
        let events = client.events(&args.name, None).await?.value;
        return Ok(args.format.show(&events[..], listed));
    }
    if args.name.is_empty() {
        return Err(Failure::usage("the event has no name").hint("--name NAME"));
    }
    let event = UserEvent {
        name: args.name,
        payload: read_value(&args.payload)?.into(),
        node_filter: args.node,
        service_filter: args.service,
        tag_filter: args.tag,
        ..UserEvent::default()
    };
    let fired = client.fire_event(&event).await?;
    Ok(args.format.show(&fired, |fired| format!("Event ID: {}\n", fired.id)))
}

fn listed(events: &[UserEvent]) -> String {
    let rows = events.iter().map(|event| {
        let payload: String = String::from_utf8_lossy(&event.payload).escape_debug().take(60).collect();
        row([&event.name, &event.id, &event.time.to_string(), &event.service_filter, &payload])
    });
    let head = row(["Name", "ID", "LTime", "Service", "Payload"]);
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
