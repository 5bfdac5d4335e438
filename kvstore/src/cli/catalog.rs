//! `kvstore catalog`: what is registered.

use std::collections::BTreeMap;

use kvstore_client::{Client, types::Node};

use super::{
    failure::Failure,
    registry::RegistryArgs,
    table::{columns, row},
};

/// Lists hosts and services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore catalog nodes\n  kvstore catalog services --tags")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Nodes(NodesArgs),
    Services(ServicesArgs),
}

/// Lists the hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore catalog nodes
  kvstore catalog nodes --service web      hosts with an instance of web
  kvstore catalog nodes --detailed         addresses and metadata, too")]
struct NodesArgs {
    /// Only hosts that offer this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// All addresses and metadata.
    #[arg(long)]
    detailed: bool,
}

/// Lists the services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore catalog services\n  kvstore catalog services --node host1 --tags")]
struct ServicesArgs {
    /// Only services with an instance on this host.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Their tags, too.
    #[arg(long)]
    tags: bool,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::Nodes(args) => nodes(&client, args).await,
        Command::Services(args) => services(&client, args).await,
    }
}

async fn nodes(client: &Client, args: NodesArgs) -> Result<Vec<u8>, Failure> {
    let mut nodes = client.catalog_nodes(None).await?.value;
    if let Some(service) = &args.service {
        let instances = client.catalog_service(service, None).await?.value;
        if instances.is_empty() {
            return Err(Failure::new(format!("nobody offers a service {service:?}")).hint("kvstore catalog services"));
        }
        nodes.retain(|node| instances.iter().any(|instance| instance.node == node.node));
    }
    Ok(show_nodes(&nodes, args.detailed).into())
}

fn show_nodes(nodes: &[Node], detailed: bool) -> String {
    let mut rows = vec![row(["Node", "ID", "Address", "DC"])];
    if detailed {
        rows[0].extend(row(["TaggedAddresses", "Meta"]));
    }
    for node in nodes {
        let id = if detailed { node.id.clone() } else { node.id.chars().take(8).collect() };
        let mut cells = row([&node.node, &id, &node.address, &node.datacenter]);
        if detailed {
            cells.extend([pairs(node.tagged_addresses.as_ref()), pairs(node.meta.as_ref())]);
        }
        rows.push(cells);
    }
    columns(&rows)
}

fn pairs(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

async fn services(client: &Client, args: ServicesArgs) -> Result<Vec<u8>, Failure> {
    let services = match &args.node {
        None => client.catalog_services(None).await?.value,
        Some(name) => {
            let node = client.catalog_node(name, None).await?.value;
            let node =
                node.ok_or_else(|| Failure::new(format!("there is no node {name:?}")).hint("kvstore catalog nodes"))?;
            let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for instance in node.services.into_values() {
                let known = tags.entry(instance.service).or_default();
                known.extend(instance.tags);
                known.sort();
                known.dedup();
            }
            tags
        }
    };
    let rows: Vec<_> = services
        .into_iter()
        .map(|(name, tags)| if args.tags { vec![name, tags.join(",")] } else { vec![name] })
        .collect();
    Ok(columns(&rows).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_a_table() {
        let node = Node {
            id: "11111111-1111-4111-8111-111111111111".into(),
            node: "host1".into(),
            address: "10.0.0.1".into(),
            datacenter: "dc1".into(),
            meta: Some([("a".to_owned(), "b".to_owned())].into()),
            ..Node::default()
        };
        let nodes = [node];
        assert_eq!(show_nodes(&nodes, false), "Node   ID        Address   DC\nhost1  11111111  10.0.0.1  dc1\n");
        assert!(show_nodes(&nodes, true).ends_with("dc1                   a=b\n"), "{}", show_nodes(&nodes, true));
    }
}
