//! `kvstore acl policy`: rules under a name, for tokens to have.

use kvstore_client::{Client, types::AclPolicy};

use crate::cli::{
    failure::Failure,
    format::FormatArgs,
    kv::read_value,
    table::{columns, row},
};

/// Makes, shows and changes policies.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl policy create --name web --rules @web.hcl
  kvstore acl policy list
  kvstore acl policy read --name web")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
    Read(ReadArgs),
    List(ListArgs),
    Update(UpdateArgs),
    Delete(DeleteArgs),
}

/// Makes a policy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl policy create --name web --rules @web.hcl
  kvstore acl policy create --name web --rules 'service \"web\" { policy = \"write\" }'
  generate | kvstore acl policy create --name web --rules -")]
struct CreateArgs {
    /// What tokens call it by.
    #[arg(long)]
    name: String,
    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// HCL or JSON; @FILE for a file's content, - for standard input.
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Which policy.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its id.
    #[arg(long)]
    id: Option<String>,
    /// Its name.
    #[arg(long)]
    name: Option<String>,
}

/// Shows a policy with its rules.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore acl policy read --name web")]
struct ReadArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    format: FormatArgs,
}

/// Lists the policies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore acl policy list\n  kvstore acl policy list --format json")]
struct ListArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// Changes a policy, for every token that has it; what is not given stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl policy update --name web --rules @web.hcl
  kvstore acl policy update --id 06acc965-df4b-5a99-58cb-3250930c6324 --name frontend")]
struct UpdateArgs {
    /// Its id.
    #[arg(long, required_unless_present = "name")]
    id: Option<String>,
    /// Its name; with --id its new one.
    #[arg(long)]
    name: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// HCL or JSON; @FILE for a file's content, - for standard input.
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// What is not given goes.
    #[arg(long)]
    no_merge: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Deletes a policy: the tokens that have it lose it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore acl policy delete --name web")]
struct DeleteArgs {
    #[command(flatten)]
    which: Which,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<Vec<u8>, Failure> {
    match args.command {
        Command::Create(args) => {
            let rules = args.rules.as_deref().map(rules).transpose()?;
            let policy = AclPolicy { name: args.name, description: args.description, rules, ..AclPolicy::default() };
            Ok(args.format.show(&client.acl_policy_create(&policy).await?, details))
        }
        Command::Read(args) => Ok(args.format.show(&find(client, args.which).await?, details)),
        Command::List(args) => Ok(args.format.show(&client.acl_policy_list().await?[..], list)),
        Command::Update(args) => {
            let format = args.format;
            Ok(format.show(&update(client, args).await?, details))
        }
        Command::Delete(args) => {
            let id = find(client, args.which).await?.id;
            client.acl_policy_delete(&id).await?;
            Ok(format!("Policy deleted: {id}\n").into())
        }
    }
}

async fn find(client: &Client, which: Which) -> Result<AclPolicy, Failure> {
    match which {
        Which { id: Some(id), .. } => Ok(client.acl_policy_read(&id).await?),
        Which { name, .. } => Ok(client.acl_policy_read_by_name(&name.unwrap_or_default()).await?),
    }
}

async fn update(client: &Client, args: UpdateArgs) -> Result<AclPolicy, Failure> {
    let given = args.rules.as_deref().map(rules).transpose()?;
    let which = Which { name: args.name.clone().filter(|_| args.id.is_none()), id: args.id };
    let kept = find(client, which).await?;
    let (id, name) = (kept.id.clone(), args.name.unwrap_or_else(|| kept.name.clone()));
    let kept = if args.no_merge { AclPolicy::default() } else { kept };
    let description = args.description.unwrap_or_else(|| kept.description.clone());
    let policy = AclPolicy { id, name, description, rules: given.or_else(|| kept.rules.clone()), ..kept };
    Ok(client.acl_policy_update(&policy).await?)
}

fn rules(text: &str) -> Result<String, Failure> {
    String::from_utf8(read_value(text)?).map_err(|_| Failure::usage("the rules are no text"))
}

/// A policy, named as Consul's command names it.
fn details(policy: &AclPolicy) -> String {
    let rows = [
        row(["ID:", &policy.id]),
        row(["Name:", &policy.name]),
        row(["Description:", &policy.description]),
        row(["Datacenters:", &policy.datacenters.join(", ")]),
    ];
    let rules = policy.rules.as_deref().unwrap_or_default().trim_end();
    columns(&rows) + "Rules:\n" + rules + "\n"
}

fn list(policies: &[AclPolicy]) -> String {
    let rows = policies.iter().map(|policy| row([&policy.id, &policy.name, &policy.description]));
    let head = row(["ID", "Name", "Description"]);
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
