//! `kvstore kv export` and `import`: a tree of keys as JSON, in Consul's format.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kvstore_client::{Client, KvPut};
use serde::{Deserialize, Serialize};

use super::{failure::Failure, kv::read_value, progress};

/// Prints keys with their values as JSON, for `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvstore kv export > all.json\n  kvstore kv export config/ > config.json")]
pub(super) struct ExportArgs {
    /// Only keys that begin so.
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

/// Writes the keys of an export.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore kv import @all.json
  kvstore kv export config/ | kvstore kv import -http-addr=10.0.0.5:8500 -")]
pub(super) struct ImportArgs {
    /// The export: @FILE, - for standard input, or the JSON itself.
    data: String,
    /// Put before each key.
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
}

/// One key of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Exported {
    key: String,
    #[serde(default)]
    flags: u64,
    /// As base64.
    #[serde(default)]
    value: String,
}

pub(super) async fn export(client: &Client, args: ExportArgs) -> Result<Vec<u8>, Failure> {
    let reading = progress::waiting("reading keys");
    let entries = client.kv_list(&args.prefix, None).await?.value;
    drop(reading);
    let exported =
        entries.into_iter().map(|e| Exported { key: e.key, flags: e.flags, value: STANDARD.encode(&e.value) });
    let mut out = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, tabs);
    exported.collect::<Vec<_>>().serialize(&mut serializer).expect("plain texts and numbers");
    out.push(b'\n');
    Ok(out)
}

pub(super) async fn import(client: &Client, args: ImportArgs) -> Result<Vec<u8>, Failure> {
    let entries = parse(&read_value(&args.data)?)?;
    let mut out = Vec::new();
    let total = entries.len();
    let done = progress::counting("keys", total);
    for (n, (key, flags, value)) in entries.into_iter().enumerate() {
        let key = args.prefix.clone() + &key;
        let written = client.kv_put(&key, value, KvPut { flags, ..KvPut::default() }).await;
        written.map_err(|e| Failure::new(format!("imported {n} of {total} keys; {key:?} failed")).because(&e))?;
        out.extend(format!("Imported: {key}\n").into_bytes());
        done.inc(1);
    }
    Ok(out)
}

/// Every key, flags and value of an export: all of it is read before any of it is written.
fn parse(data: &[u8]) -> Result<Vec<(String, u64, Vec<u8>)>, Failure> {
    let entries: Vec<Exported> = serde_json::from_slice(data)
        .map_err(|e| Failure::new("this is no export of keys; nothing was written").because(&e))?;
    let decoded = entries.into_iter().map(|entry| match STANDARD.decode(&entry.value) {
        Ok(_) if entry.key.is_empty() => Err(Failure::new("a key in the export is empty; nothing was written")),
        Ok(value) => Ok((entry.key, entry.flags, value)),
        Err(e) => {
            Err(Failure::new(format!("the value of {:?} is not base64; nothing was written", entry.key)).because(&e))
        }
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_read_whole_or_not_at_all() {
        let read = parse(br#"[{"key":"a","flags":7,"value":"/w=="},{"key":"b"}]"#).unwrap();
        assert_eq!(read, [("a".into(), 7, vec![0xff]), ("b".into(), 0, vec![])]);
        for (data, why) in [
            ("{", "no export"),
            (r#"[{"value":""}]"#, "no export"),
            (r#"[{"key":"a"},{"key":"b","value":"!"}]"#, "\"b\" is not base64"),
            (r#"[{"key":""}]"#, "is empty"),
        ] {
            assert!(parse(data.as_bytes()).unwrap_err().to_string().contains(why), "{data}");
        }
    }
}
