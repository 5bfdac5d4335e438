//! `kvstore info`: facts of an agent.

use serde_json::Value;

use super::{failure::Failure, format::FormatArgs, registry::RegistryArgs};

/// Prints facts of the agent: its name, version, index, what it runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore info\n  kvstore info --http-addr 10.0.0.5:8500")]
pub(super) struct Args {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let about = args.registry.client()?.agent_self().await?;
    Ok(args.format.show(&about, show))
}

/// The agent's configuration and each group of its figures, as `key = value` lines under their name.
fn show(about: &Value) -> String {
    let mut out = String::new();
    let stats = about["Stats"].as_object();
    let groups = stats.into_iter().flatten().map(|(name, group)| (name.as_str(), group));
    for (name, group) in std::iter::once(("config", &about["Config"])).chain(groups) {
        out.extend([name, ":\n"]);
        for (key, value) in group.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            if !text.is_empty() {
                out.extend(["\t", key, " = ", &text, "\n"]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_grouped() {
        let about = serde_json::json!({
            "Config": {"NodeName": "n1", "Revision": "", "Server": true},
            "Stats": {"raft": {"applied_index": "7"}},
        });
        assert_eq!(show(&about), "config:\n\tNodeName = n1\n\tServer = true\nraft:\n\tapplied_index = 7\n");
        assert_eq!(show(&Value::Null), "config:\n");
    }
}
