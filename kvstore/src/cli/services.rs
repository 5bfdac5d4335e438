//! `kvstore services`: registers and deregisters instances at an agent.

use std::path::PathBuf;

use kvstore_client::{Client, types::ServiceRegistration};

use super::{failure::Failure, registry::RegistryArgs};
use crate::config;

/// Registers and deregisters services at an agent.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore services register --name web --port 8080
  kvstore services register web.json
  kvstore services deregister --id web")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Register(RegisterArgs),
    Deregister(DeregisterArgs),
}

/// Registers services, from options or from files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore services register --name web --id web-1 --port 8080 --tag blue --meta version=2
  kvstore services register web.json db.yaml

A file, JSON or YAML:
  service:
    name: web
    port: 8080
    check: {http: 'http://127.0.0.1:8080/health', interval: 10s}")]
struct RegisterArgs {
    /// Files or directories that define services.
    #[arg(value_name = "FILE", conflicts_with_all = ["name", "id", "address", "port", "tag", "meta"])]
    files: Vec<PathBuf>,
    /// The service's name.
    #[arg(long)]
    name: Option<String>,
    /// The instance's id; the name unless given.
    #[arg(long)]
    id: Option<String>,
    /// Its address; the node's unless given.
    #[arg(long)]
    address: Option<String>,
    /// Its port.
    #[arg(long)]
    port: Option<u16>,
    /// A tag. May be repeated.
    #[arg(long)]
    tag: Vec<String>,
    /// A pair of metadata. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = meta_pair)]
    meta: Vec<(String, String)>,
}

/// Deregisters an instance, or all that files define.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore services deregister --id web-1\n  kvstore services deregister web.json")]
struct DeregisterArgs {
    /// Files or directories that define services.
    #[arg(value_name = "FILE", conflicts_with = "id")]
    files: Vec<PathBuf>,
    /// The instance's id.
    #[arg(long)]
    id: Option<String>,
}

fn meta_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.into(), value.into()))
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::Register(args) => register(&client, args).await,
        Command::Deregister(args) => deregister(&client, args).await,
    }
}

async fn register(client: &Client, args: RegisterArgs) -> Result<Vec<u8>, Failure> {
    let services = if let Some(name) = args.name {
        vec![ServiceRegistration {
            name,
            id: args.id.unwrap_or_default(),
            address: args.address.unwrap_or_default(),
            port: args.port.unwrap_or_default(),
            tags: args.tag,
            meta: args.meta.into_iter().collect(),
            ..ServiceRegistration::default()
        }]
    } else {
        defined(&args.files, "--name")?
    };
    let mut out = String::new();
    for service in services {
        client.register_service(&service).await?;
        out.extend(["Registered service: ", &service.name, "\n"]);
    }
    Ok(out.into())
}

async fn deregister(client: &Client, args: DeregisterArgs) -> Result<Vec<u8>, Failure> {
    let ids = match args.id {
        Some(id) => vec![id],
        None => {
            defined(&args.files, "--id")?.into_iter().map(|s| if s.id.is_empty() { s.name } else { s.id }).collect()
        }
    };
    let mut out = String::new();
    for id in ids {
        client.deregister_service(&id).await?;
        out.extend(["Deregistered service: ", &id, "\n"]);
    }
    Ok(out.into())
}

/// The services of `files`; `instead` is the option that would do without.
fn defined(files: &[PathBuf], instead: &str) -> Result<Vec<ServiceRegistration>, Failure> {
    if files.is_empty() {
        return Err(Failure::usage(format!("which service? give {instead}, or a FILE that defines some")));
    }
    let services = config::services(files).map_err(|e| Failure::usage(e.to_string()))?;
    if services.is_empty() { Err(Failure::usage("the files define no service")) } else { Ok(services) }
}
