//! `kvstore acl`: the first token, then tokens and policies.

mod policy;
mod token;

use super::{failure::Failure, format::FormatArgs, registry::RegistryArgs};

/// Makes, shows and changes tokens and the policies that say what they may.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl bootstrap                       the first token, which may everything
  export CONSUL_HTTP_TOKEN=<its SecretID>
  kvstore acl policy create --name web --rules 'service \"web\" { policy = \"write\" }'
  kvstore acl token create --description 'deploys web' --policy-name web

The agent must have been started with acl.enabled. A secret is printed when its token is made, and never again.

Exit codes: 0 done; 1 there is no such token or policy, the registry refused, or no answer; 2 the command is wrong.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Bootstrap(BootstrapArgs),
    Token(token::Args),
    Policy(policy::Args),
}

/// Makes the first token, which may everything; works once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl bootstrap
  kvstore acl bootstrap --format json | jq -r .SecretID")]
struct BootstrapArgs {
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::Bootstrap(args) => {
            let token = client.acl_bootstrap().await.map_err(not_first)?;
            Ok(args.format.show(&token, token::details))
        }
        Command::Token(args) => token::run(&client, args).await,
        Command::Policy(args) => policy::run(&client, args).await,
    }
}

/// No token helps against these refusals.
fn not_first(error: kvstore_client::Error) -> Failure {
    let status = error.status();
    let failure = Failure::from(error);
    match status {
        Some(401) => failure.hint("start the agent with acl.enabled: true"),
        Some(403) => failure.hint(
            "if every token is lost, write that index into acl-bootstrap-reset in the data directory, and do this again",
        ),
        _ => failure,
    }
}
