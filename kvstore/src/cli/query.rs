//! `kvstore query`: prepared queries, questions about services that are kept under a name.

use kvstore_client::{
    Client, ExecuteQuery,
    types::{PreparedQuery, QueryExecution, ServiceEntry},
};
use serde_json::{Value, json};

use super::{
    failure::Failure,
    format::FormatArgs,
    kv::read_value,
    registry::RegistryArgs,
    table::{columns, pairs, row},
};

/// Keeps, shows and executes prepared queries.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore query create '{\"Name\": \"web\", \"Service\": {\"Service\": \"web\", \"OnlyPassing\": true}}'
  kvstore query list
  kvstore query execute web
  dig @127.0.0.1 -p 8600 web.query.consul

Exit codes: 0 done; 1 there is no such query, the registry refused the definition, or no answer; 2 the command or the
JSON is wrong.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(ListArgs),
    Read(ReadArgs),
    Create(CreateArgs),
    Update(UpdateArgs),
    Delete(DeleteArgs),
    Execute(ExecuteArgs),
    Explain(ExplainArgs),
}

/// Lists the queries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore query list\n  kvstore query list --format json")]
struct ListArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows a query as it is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore query read web\n  kvstore query read --format json web > web.json")]
struct ReadArgs {
    /// Its id or name.
    #[arg(value_name = "ID|NAME")]
    query: String,
    #[command(flatten)]
    format: FormatArgs,
}

const DEFINITION: &str = "\
A definition is JSON with the API's names:
  {\"Name\": \"web\",
   \"Service\": {\"Service\": \"web\", \"Tags\": [\"v2\", \"!old\"], \"OnlyPassing\": true, \"Near\": \"_agent\"},
   \"DNS\": {\"TTL\": \"10s\"}}
With \"Template\": {\"Type\": \"name_prefix_match\", \"Regexp\": \"^web-(.*)$\"} it answers for all names that begin with its
own; \"${match(1)}\" in it is what was matched.";

/// Keeps a new query, and prints its id.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Examples:
  kvstore query create @web.json
  kvstore query create '{{\"Name\": \"web\", \"Service\": {{\"Service\": \"web\"}}}}'
  generate | kvstore query create -

{DEFINITION}"))]
struct CreateArgs {
    /// The definition; @FILE for a file's content, - for standard input.
    #[arg(value_name = "JSON")]
    definition: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// Puts another definition in the place of a query's.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Example:\n  kvstore query update web @web.json\n\n{DEFINITION}"))]
struct UpdateArgs {
    /// Its id or name.
    #[arg(value_name = "ID|NAME")]
    query: String,
    /// The definition; @FILE for a file's content, - for standard input.
    #[arg(value_name = "JSON")]
    definition: String,
}

/// Deletes a query.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore query delete web")]
struct DeleteArgs {
    /// Its id or name.
    #[arg(value_name = "ID|NAME")]
    query: String,
}

/// Lists the instances that a query finds now.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore query execute web
  kvstore query execute --limit 1 --near _agent web
  kvstore query execute --format json web")]
struct ExecuteArgs {
    /// Its id or name, or a name that a template answers for.
    #[arg(value_name = "ID|NAME")]
    query: String,
    /// So many at most; 0: all.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// Nearest to this host first; _agent is the agent's own. As the query says unless given.
    #[arg(long, value_name = "NODE")]
    near: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows a query as it would be executed, what a template makes of a name filled in.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore query explain web-v2")]
struct ExplainArgs {
    /// Its id or name, or a name that a template answers for.
    #[arg(value_name = "ID|NAME")]
    query: String,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::List(args) => {
            let queries = client.query_list(None).await?.value;
            Ok(args.format.show(&queries[..], list))
        }
        Command::Read(args) => Ok(args.format.show(&find(&client, &args.query).await?, details)),
        Command::Create(args) => {
            let id = client.query_create(&definition(&args.definition)?).await?;
            Ok(args.format.show(&json!({"ID": id}), |_| format!("{id}\n")))
        }
        Command::Update(args) => {
            let query = definition(&args.definition)?;
            let id = find(&client, &args.query).await?.id;
            client.query_update(&id, &query).await?;
            Ok(format!("Query updated: {id}\n").into())
        }
        Command::Delete(args) => {
            let id = find(&client, &args.query).await?.id;
            client.query_delete(&id).await?;
            Ok(format!("Query deleted: {id}\n").into())
        }
        Command::Execute(args) => {
            let ask = ExecuteQuery { limit: args.limit, near: args.near, connect: false };
            let found = client.query_execute(&args.query, &ask).await?.ok_or_else(|| absent(&args.query))?;
            Ok(args.format.show(&found, instances))
        }
        Command::Explain(args) => {
            let explained = client.query_explain(&args.query).await?.ok_or_else(|| absent(&args.query))?;
            Ok(args.format.show(&explained, |explained| details(&explained.query)))
        }
    }
}

fn absent(query: &str) -> Failure {
    Failure::new(format!("there is no query {query:?}")).hint("kvstore query list")
}

/// The kept query of this id or, if there is none, of this name.
async fn find(client: &Client, wanted: &str) -> Result<PreparedQuery, Failure> {
    let mut queries = client.query_list(None).await?.value;
    let of = |has: fn(&PreparedQuery) -> &str| queries.iter().position(|query| has(query) == wanted);
    let at = of(|query| &query.id).or_else(|| of(|query| &query.name));
    at.map(|at| queries.swap_remove(at)).ok_or_else(|| absent(wanted))
}

/// Reads a definition; a field that is not known would be lost without a word, so it is a mistake.
fn definition(text: &str) -> Result<PreparedQuery, Failure> {
    let bytes = read_value(text)?;
    let wrong =
        |why: String| Failure::usage(format!("the definition is wrong: {why}")).hint("kvstore query create --help");
    let given: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    let query: PreparedQuery = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    match unknown(&given, &serde_json::to_value(&query).expect("it was JSON")) {
        None => Ok(query),
        Some(field) => Err(wrong(format!("there is no field {field}"))),
    }
}

/// The first field of `given` that `known` has not, with its path.
fn unknown(given: &Value, known: &Value) -> Option<String> {
    let (Value::Object(given), Value::Object(known)) = (given, known) else { return None };
    given.iter().find_map(|(name, value)| match known.get(name) {
        None => Some(name.clone()),
        Some(known) => unknown(value, known).map(|inner| format!("{name}.{inner}")),
    })
}

fn list(queries: &[PreparedQuery]) -> String {
    let rows = queries.iter().map(|query| {
        row([&query.id, &query.name, &query.service.service, dash(&query.template.kind), dash(&query.dns.ttl)])
    });
    let head = row(["ID", "Name", "Service", "Template", "TTL"]);
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// What is set of a query.
fn details(query: &PreparedQuery) -> String {
    let service = &query.service;
    let texts = |list: &Option<Vec<String>>| list.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
    let truth = |truth: bool| if truth { "true" } else { "" };
    let nearest = if service.failover.nearest_n > 0 { service.failover.nearest_n.to_string() } else { String::new() };
    let all = [
        row(["ID", &query.id]),
        row(["Name", &query.name]),
        row(["Session", &query.session]),
        row(["Template", &query.template.kind]),
        row(["Regexp", &query.template.regexp]),
        row(["Service", &service.service]),
        row(["Tags", &texts(&service.tags)]),
        row(["NodeMeta", &pairs(service.node_meta.as_ref(), ", ")]),
        row(["ServiceMeta", &pairs(service.service_meta.as_ref(), ", ")]),
        row(["OnlyPassing", truth(service.only_passing)]),
        row(["IgnoreCheckIDs", &texts(&service.ignore_check_ids)]),
        row(["Near", &service.near]),
        row(["Connect", truth(service.connect)]),
        row(["NearestN", &nearest]),
        row(["Datacenters", &texts(&service.failover.datacenters)]),
        row(["TTL", &query.dns.ttl]),
    ];
    columns(&all.into_iter().filter(|row| !row[1].is_empty()).collect::<Vec<_>>())
}

fn instances(found: &QueryExecution) -> String {
    let address = |entry: &ServiceEntry| match &*entry.service.address {
        "" => entry.node.address.clone(),
        address => address.to_owned(),
    };
    let rows = found.nodes.iter().map(|entry| {
        let port = entry.service.port.to_string();
        row([&entry.node.node, &entry.service.id, &address(entry), &port, &entry.service.tags.join(",")])
    });
    let head = row(["Node", "ID", "Address", "Port", "Tags"]);
    columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_with_fields_that_do_not_exist_are_refused() {
        for (text, expected) in [
            (r#"{"Name": "a", "Service": {"Service": "web", "Tags": ["x"], "NodeMeta": {"any": "thing"}}}"#, None),
            (
                r#"{"Service": {"Service": "web"}, "DNS": {"TTL": "10s"}, "Template": {"Type": "t", "Regexp": "r"}}"#,
                None,
            ),
            (r#"{"Nmae": "a"}"#, Some("there is no field Nmae")),
            (r#"{"Service": {"Failover": {"NearestM": 1}}}"#, Some("there is no field Service.Failover.NearestM")),
            (r#"{"Service": "web"}"#, Some("invalid type: string \"web\"")),
            ("web", Some("expected value")),
            ("@/no/such/file", Some("cannot read /no/such/file")),
        ] {
            let found = definition(text).map_err(|failure| failure.to_string());
            match expected {
                None => assert!(found.is_ok(), "{text}: {found:?}"),
                Some(why) => assert!(found.as_ref().is_err_and(|said| said.contains(why)), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn only_what_is_set_is_shown() {
        let query =
            definition(r#"{"Name": "w", "Service": {"Service": "web", "Tags": ["a", "!b"], "OnlyPassing": true}}"#);
        let expected = "Name         w\nService      web\nTags         a, !b\nOnlyPassing  true\n";
        assert_eq!(details(&query.unwrap()), expected);
    }
}
