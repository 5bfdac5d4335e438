//! `kvstore acl token`: who shows a secret, and which policies say what they may.

use kvstore_client::{
    Client, GoDuration,
    types::{AclLink, AclToken},
};

use crate::cli::{
    failure::Failure,
    format::FormatArgs,
    kv::read_value,
    table::{columns, row},
};

/// Makes, shows and changes tokens.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl token create --policy-name web
  kvstore acl token list
  kvstore acl token read --self")]
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
    Clone(CloneArgs),
    Delete(DeleteArgs),
}

/// Policies of a token.
#[derive(Debug, clap::Args)]
struct PolicyArgs {
    /// A policy by its id. May be repeated.
    #[arg(long, value_name = "ID")]
    policy_id: Vec<String>,
    /// A policy by its name. May be repeated.
    #[arg(long, value_name = "NAME")]
    policy_name: Vec<String>,
}

impl PolicyArgs {
    fn links(self) -> Vec<AclLink> {
        let ids = self.policy_id.into_iter().map(|id| AclLink { id, ..AclLink::default() });
        let names = self.policy_name.into_iter().map(|name| AclLink { name, ..AclLink::default() });
        ids.chain(names).collect()
    }
}

/// Makes a token, and prints it with its secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl token create --description 'deploys web' --policy-name web --policy-name dns
  kvstore acl token create --policy-name web --expires-ttl 1h
  kvstore acl token create --policy-name web --secret @secret    one that you have made: a UUID")]
struct CreateArgs {
    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    policies: PolicyArgs,
    /// It ends after this long, from a minute to a day; without: never.
    #[arg(long, value_name = "DURATION")]
    expires_ttl: Option<GoDuration>,
    /// Mark it as one of this datacenter only.
    #[arg(long)]
    local: bool,
    /// Its accessor id, a UUID; made unless given.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    accessor: String,
    /// Its secret, a UUID; @FILE for a file's content, - for standard input. Made unless given.
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows a token, without its secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl token read --id 6a1253d2-1785-24fd-91c2-f8e78c745511
  kvstore acl token read --self               the one that is shown, with its secret")]
struct ReadArgs {
    /// Its accessor id.
    #[arg(long, alias = "accessor-id", value_name = "ID", required_unless_present = "self_")]
    id: Option<String>,
    /// The token that this command shows the registry.
    #[arg(long = "self", id = "self_", conflicts_with = "id")]
    own: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Lists the tokens.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore acl token list\n  kvstore acl token list --format json")]
struct ListArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// Changes what a token is for; what is not given stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore acl token update --id 6a1253d2-... --policy-name web          this policy in place of all others
  kvstore acl token update --id 6a1253d2-... --merge-policies --policy-name dns
  kvstore acl token update --id 6a1253d2-... --no-merge                 neither description nor policies")]
struct UpdateArgs {
    /// Its accessor id.
    #[arg(long, alias = "accessor-id", value_name = "ID")]
    id: String,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    policies: PolicyArgs,
    /// Give it these policies beside those that it has.
    #[arg(long)]
    merge_policies: bool,
    /// What is not given goes.
    #[arg(long, conflicts_with = "merge_policies")]
    no_merge: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Makes a token that may the same as another, and prints it with its secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore acl token clone --id 6a1253d2-1785-24fd-91c2-f8e78c745511")]
struct CloneArgs {
    /// The other's accessor id.
    #[arg(long, alias = "accessor-id", value_name = "ID")]
    id: String,
    /// What the new one is for; the other's unless given.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// Deletes a token: whoever shows it is refused from then on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore acl token delete --id 6a1253d2-1785-24fd-91c2-f8e78c745511")]
struct DeleteArgs {
    /// Its accessor id.
    #[arg(long, alias = "accessor-id", value_name = "ID")]
    id: String,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<Vec<u8>, Failure> {
    match args.command {
        Command::Create(args) => {
            let format = args.format;
            Ok(format.show(&client.acl_token_create(&wanted(args)?).await?, details))
        }
        Command::Read(args) => {
            let token = match &args.id {
                Some(id) => client.acl_token_read(id).await?,
                None => client.acl_token_self().await?,
            };
            Ok(args.format.show(&token, details))
        }
        Command::List(args) => Ok(args.format.show(&client.acl_token_list().await?[..], list)),
        Command::Update(args) => {
            let format = args.format;
            let token = changed(client.acl_token_read(&args.id).await?, args);
            Ok(format.show(&client.acl_token_update(&token).await?, details))
        }
        Command::Clone(args) => {
            let token = client.acl_token_clone(&args.id, &args.description).await?;
            Ok(args.format.show(&token, details))
        }
        Command::Delete(args) => {
            client.acl_token_delete(&args.id).await?;
            Ok(format!("Token deleted: {}\n", args.id).into())
        }
    }
}

fn wanted(args: CreateArgs) -> Result<AclToken, Failure> {
    let secret = args.secret.as_deref().map(read_value).transpose()?.unwrap_or_default();
    let secret = String::from_utf8(secret).map_err(|_| Failure::usage("the secret is no text"))?;
    Ok(AclToken {
        accessor_id: args.accessor,
        secret_id: secret.trim().into(),
        description: args.description,
        policies: args.policies.links(),
        local: args.local,
        expiration_ttl: args.expires_ttl,
        ..AclToken::default()
    })
}

/// The token as it shall be. Unlike Consul's command, one that names no policies takes none away.
fn changed(token: AclToken, args: UpdateArgs) -> AclToken {
    let kept =
        if args.no_merge { AclToken { description: String::new(), policies: Vec::new(), ..token } } else { token };
    let mut policies = args.policies.links();
    if args.merge_policies || policies.is_empty() {
        policies.splice(..0, kept.policies);
    }
    AclToken { description: args.description.unwrap_or(kept.description), policies, ..kept }
}

/// A token, named as Consul's command names it, so that scripts find `SecretID:`.
pub(super) fn details(token: &AclToken) -> String {
    let ends = token.expiration_time.as_deref().unwrap_or_default();
    let mut rows = vec![
        row(["AccessorID:", &token.accessor_id]),
        row(["SecretID:", &token.secret_id]),
        row(["Description:", &token.description]),
        row(["Local:", &token.local.to_string()]),
        row(["Create Time:", &token.create_time]),
    ];
    rows.extend((!ends.is_empty()).then(|| row(["Expiration Time:", ends])));
    let policies = token.policies.iter().map(|policy| format!("   {} - {}\n", policy.id, policy.name));
    columns(&rows) + "Policies:\n" + &policies.collect::<String>()
}

fn list(tokens: &[AclToken]) -> String {
    let rows = tokens.iter().map(|token| {
        let names: Vec<_> = token.policies.iter().map(|policy| policy.name.as_str()).collect();
        let ends = token.expiration_time.as_deref().unwrap_or("-");
        let policies = if names.is_empty() { "-".into() } else { names.join(",") };
        row([&token.accessor_id, &policies, ends, &token.description])
    });
    let head = row(["AccessorID", "Policies", "Ends", "Description"]);
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_adds_or_leaves_the_policies() {
        let link = |name: &str| AclLink { name: name.into(), ..AclLink::default() };
        let names = |names: &[&str]| names.iter().map(|name| link(name)).collect::<Vec<_>>();
        for (given, merge_policies, no_merge, expected) in [
            (&["b"][..], false, false, &["b"][..]),
            (&["b"], true, false, &["a", "b"]),
            (&[], false, false, &["a"]),
            (&["b"], false, true, &["b"]),
            (&[], false, true, &[]),
        ] {
            let token = AclToken { description: "old".into(), policies: names(&["a"]), ..AclToken::default() };
            let policies =
                PolicyArgs { policy_id: Vec::new(), policy_name: given.iter().map(ToString::to_string).collect() };
            let format = FormatArgs { format: crate::cli::format::Format::Table };
            let id = String::new();
            let args = UpdateArgs { id, description: None, policies, merge_policies, no_merge, format };
            let changed = changed(token, args);
            assert_eq!(changed.policies, names(expected), "{given:?} {merge_policies} {no_merge}");
            assert_eq!(changed.description, if no_merge { "" } else { "old" });
        }
    }
}
