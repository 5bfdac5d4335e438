//! `kvstore catalog`: what is registered.

use std::collections::BTreeMap;

use kvstore_client::{
    Client, Select,
    types::{CatalogServices, Node},
};

use super::{
    failure::Failure,
    format::FormatArgs,
    registry::RegistryArgs,
    table::{columns, pairs, row},
};

/// Lists datacenters, hosts and services.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore catalog nodes
  kvstore catalog services --tags
  kvstore catalog datacenters

Exit codes: 0 listed; 1 there is no such host or service, or no answer; 2 the command is wrong.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Datacenters(DatacentersArgs),
    Nodes(NodesArgs),
    Services(ServicesArgs),
}

/// Lists the datacenters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore catalog datacenters")]
struct DatacentersArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// Lists the hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore catalog nodes
  kvstore catalog nodes --service web      hosts with an instance of web
  kvstore catalog nodes --detailed         addresses and metadata, too
  kvstore catalog nodes --node-meta rack:r1 --near _agent
  kvstore catalog nodes --filter 'Meta.rack != r1' --format json")]
struct NodesArgs {
    /// Only hosts that offer this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// All addresses and metadata.
    #[arg(long)]
    detailed: bool,
    /// Only hosts of which this expression is true.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Nearest to this host first; _agent is the agent's own.
    #[arg(long, value_name = "NODE")]
    near: Option<String>,
    /// Only hosts with this pair of metadata. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = meta_pair)]
    node_meta: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Lists the services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore catalog services\n  kvstore catalog services --node host1 --tags")]
struct ServicesArgs {
    /// Only services with an instance on this host.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only services on hosts with this pair of metadata. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = meta_pair)]
    node_meta: Vec<String>,
    /// Their tags, too.
    #[arg(long)]
    tags: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Consul's command line has `=` where its API has `:`; both are taken.
fn meta_pair(text: &str) -> Result<String, String> {
    let at = text.find(['=', ':']).ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok(format!("{}:{}", &text[..at], &text[at + 1..]))
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::Datacenters(args) => {
            let names = client.datacenters().await?;
            Ok(args.format.show(&names[..], |names| names.iter().map(|name| name.clone() + "\n").collect()))
        }
        Command::Nodes(args) => nodes(&client, args).await,
        Command::Services(args) => services(&client, args).await,
    }
}

async fn nodes(client: &Client, args: NodesArgs) -> Result<Vec<u8>, Failure> {
    let select = Select { filter: args.filter, near: args.near, node_meta: args.node_meta, ..Select::default() };
    let mut nodes = client.catalog_nodes_of(&select, None).await?.value;
    if let Some(service) = &args.service {
        let instances = client.catalog_service(service, None).await?.value;
        if instances.is_empty() {
            return Err(Failure::new(format!("nobody offers a service {service:?}")).hint("kvstore catalog services"));
        }
        nodes.retain(|node| instances.iter().any(|instance| instance.node == node.node));
    }
    Ok(args.format.show(&nodes[..], |nodes| show_nodes(nodes, args.detailed)))
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
            cells.extend([pairs(node.tagged_addresses.as_ref(), ", "), pairs(node.meta.as_ref(), ", ")]);
        }
        rows.push(cells);
    }
    columns(&rows)
}

async fn services(client: &Client, args: ServicesArgs) -> Result<Vec<u8>, Failure> {
    let services = match &args.node {
        None => {
            let select = Select { node_meta: args.node_meta, ..Select::default() };
            client.catalog_services_of(&select, None).await?.value
        }
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
    Ok(args.format.show(&services, |services| show_services(services, args.tags)))
}

fn show_services(services: &CatalogServices, tags: bool) -> String {
    let rows =
        services.iter().map(|(name, of)| if tags { vec![name.clone(), of.join(",")] } else { vec![name.clone()] });
    columns(&rows.collect::<Vec<_>>())
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
