//! `kvstore kv`: keys of the KV store.

use std::{
    fs,
    io::{self, IsTerminal, Read},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kvstore_client::{Client, GoDuration, KvPut, types::KvEntry};

use super::{
    failure::Failure,
    format::{Format, FormatArgs, pretty},
    kv_transfer,
    registry::RegistryArgs,
    table,
};

const EXAMPLES: &str = "\
Examples:
  kvstore kv put config/colour blue
  kvstore kv get config/colour
  kvstore kv get --recurse config/
  kvstore kv delete --recurse config/
  kvstore kv export > backup.json && kvstore kv import @backup.json

Exit codes: 0 done; 1 there is no such key, it has changed since --modify-index, it is locked, or no answer; 2 the command is wrong.";

/// Reads and writes keys.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Get(GetArgs),
    Put(PutArgs),
    Delete(DeleteArgs),
    Export(kv_transfer::ExportArgs),
    Import(kv_transfer::ImportArgs),
}

/// Prints a key's value, byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore kv get config/colour
  kvstore kv get --detailed config/colour
  kvstore kv get --recurse config/        each key below with its value: KEY:VALUE
  kvstore kv get --keys config/           the names at the next level only")]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
pub(super) struct GetArgs {
    /// The key; with --recurse or --keys the beginning of keys.
    #[arg(default_value = "", hide_default_value = true)]
    key: String,
    /// Every key that begins with KEY.
    #[arg(long)]
    recurse: bool,
    /// Only the names of the keys that begin with KEY, up to the next separator.
    #[arg(long, conflicts_with = "recurse")]
    keys: bool,
    /// Where names end with --keys; empty for whole names.
    #[arg(long, default_value = "/", value_name = "TEXT")]
    separator: String,
    /// Indexes, flags and session beside the value.
    #[arg(long)]
    detailed: bool,
    /// The value as base64.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Writes a key.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore kv put config/colour blue
  kvstore kv put config/file @local.conf      the content of a file
  date | kvstore kv put config/date -         standard input
  kvstore kv put --cas --modify-index=0 lock me   only if the key does not exist
  kvstore kv put --acquire --session 5a5b6a1c-... lock me
  kvstore kv put --ttl 30s hosts/a up             it goes unless it is put again; not in Consul")]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
pub(super) struct PutArgs {
    /// The key.
    key: String,
    /// Its value; @FILE for a file's content, - for standard input, \@ or \- for a value that begins so.
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    value: String,
    /// VALUE is base64.
    #[arg(long)]
    base64: bool,
    /// A number that is kept with the value.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
    flags: u64,
    /// Only if the key has not changed since --modify-index.
    #[arg(long)]
    cas: bool,
    /// The index for --cas; 0: only if the key does not exist.
    #[arg(long, default_value_t = 0, hide_default_value = true, requires = "cas", value_name = "INDEX")]
    modify_index: u64,
    /// Lock the key for --session.
    #[arg(long, requires = "session", conflicts_with_all = ["release", "cas", "ttl"])]
    acquire: bool,
    /// Give the lock back that --session has on the key.
    #[arg(long, requires = "session", conflicts_with_all = ["cas", "ttl"])]
    release: bool,
    /// The session's id, for --acquire and --release.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The key goes when it is not put again for this long.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<GoDuration>,
}

/// Deletes a key; succeeds also if there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore kv delete config/colour
  kvstore kv delete --recurse config/         every key that begins with config/
  kvstore kv delete --cas --modify-index=7 config/colour")]
pub(super) struct DeleteArgs {
    /// The key.
    key: String,
    /// Every key that begins with KEY.
    #[arg(long)]
    recurse: bool,
    /// Only if the key has not changed since --modify-index.
    #[arg(long, conflicts_with = "recurse", requires = "modify_index")]
    cas: bool,
    /// The index for --cas.
    #[arg(long, requires = "cas", value_name = "INDEX")]
    modify_index: Option<u64>,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    match args.command {
        Command::Get(args) => get(&client, args).await,
        Command::Put(args) => put(&client, args).await,
        Command::Delete(args) => delete(&client, args).await,
        Command::Export(args) => kv_transfer::export(&client, args).await,
        Command::Import(args) => kv_transfer::import(&client, args).await,
    }
}

async fn get(client: &Client, args: GetArgs) -> Result<Vec<u8>, Failure> {
    if args.keys {
        let separator = Some(args.separator.as_str()).filter(|s| !s.is_empty());
        let keys = client.kv_keys(&args.key, separator).await?.value;
        return Ok(args.format.show(&keys[..], |keys| keys.iter().map(|key| key.clone() + "\n").collect()));
    }
    if args.recurse {
        let entries = client.kv_list(&args.key, None).await?.value;
        if args.format.format == Format::Json {
            return Ok(pretty(&entries));
        }
        let shown = entries
            .iter()
            .map(|entry| if args.detailed { details(entry, args.base64) } else { pair(entry, args.base64) });
        return Ok(shown.collect::<Vec<_>>().join(if args.detailed { &b"\n"[..] } else { b"" }));
    }
    let key = named(&args.key)?;
    let entry = client.kv_get(key, None).await?.value.ok_or_else(|| absent(key))?;
    if args.format.format == Format::Json {
        return Ok(pretty(&entry));
    }
    if args.detailed {
        return Ok(details(&entry, args.base64));
    }
    let mut value = value_of(&entry, args.base64);
    // For people only, whose prompt would follow the value; programs get the bytes as they are.
    if io::stdout().is_terminal() && !value.ends_with(b"\n") {
        value.push(b'\n');
    }
    Ok(value)
}

/// The API has no key without a name.
fn named(key: &str) -> Result<&str, Failure> {
    if key.is_empty() {
        Err(Failure::usage("the key is empty").hint("--recurse or --keys for all keys"))
    } else {
        Ok(key)
    }
}

fn absent(key: &str) -> Failure {
    Failure::new(format!("there is no key {key:?}")).hint(format!("kvstore kv get --keys {:?}", parent(key)))
}

fn parent(key: &str) -> &str {
    key.rfind('/').map_or("", |slash| &key[..=slash])
}

fn value_of(entry: &KvEntry, base64: bool) -> Vec<u8> {
    if base64 { STANDARD.encode(&entry.value).into() } else { entry.value.to_vec() }
}

fn pair(entry: &KvEntry, base64: bool) -> Vec<u8> {
    [entry.key.as_bytes(), b":", &value_of(entry, base64), b"\n"].concat()
}

/// Consul's list of an entry's fields.
fn details(entry: &KvEntry, base64: bool) -> Vec<u8> {
    let session = if entry.session.is_empty() { "-" } else { &entry.session };
    let rows = [
        table::row(["CreateIndex", &entry.create_index.to_string()]),
        table::row(["Flags", &entry.flags.to_string()]),
        table::row(["Key", &entry.key]),
        table::row(["LockIndex", &entry.lock_index.to_string()]),
        table::row(["ModifyIndex", &entry.modify_index.to_string()]),
        table::row(["Session", session]),
    ];
    [table::columns(&rows).as_bytes(), b"Value        ", &value_of(entry, base64), b"\n"].concat()
}

async fn put(client: &Client, args: PutArgs) -> Result<Vec<u8>, Failure> {
    let key = named(&args.key)?;
    let mut value = read_value(&args.value)?;
    if args.base64 {
        value = STANDARD.decode(value.trim_ascii()).map_err(|e| Failure::usage("VALUE is not base64").because(&e))?;
    }
    match args.session {
        Some(session) if args.acquire => return lock(client, key, value, args.flags, Lock::Acquire(&session)).await,
        Some(session) if args.release => return lock(client, key, value, args.flags, Lock::Release(&session)).await,
        Some(_) => return Err(Failure::usage("--session says whose lock it is; give --acquire or --release, too")),
        None => {}
    }
    let put = KvPut { flags: args.flags, cas: args.cas.then_some(args.modify_index), ttl: args.ttl };
    if !client.kv_put(key, value, put).await? {
        return Err(not_matched("written", key));
    }
    Ok(format!("Success! Data written to: {key}\n").into())
}

/// What a session does with a key.
enum Lock<'a> {
    Acquire(&'a str),
    Release(&'a str),
}

async fn lock(client: &Client, key: &str, value: Vec<u8>, flags: u64, lock: Lock<'_>) -> Result<Vec<u8>, Failure> {
    let (done, what, why) = match lock {
        Lock::Acquire(session) => {
            let why = "another session holds it, or its holder was cut off too lately";
            (client.kv_acquire(key, value, flags, session).await?, "acquired", why)
        }
        Lock::Release(session) => {
            let done = client.kv_release(key, value, flags, session).await?;
            (done, "released", "that session does not hold it")
        }
    };
    if done {
        return Ok(format!("Success! Lock {what} on: {key}\n").into());
    }
    let hint = format!("kvstore kv get --detailed {key:?}");
    Err(Failure::new(format!("the lock on {key:?} was not {what}: {why}")).hint(hint))
}

fn not_matched(done: &str, key: &str) -> Failure {
    Failure::new(format!("{key:?} was not {done}: it has changed since that index"))
        .hint(format!("kvstore kv get --detailed {key:?}"))
}

async fn delete(client: &Client, args: DeleteArgs) -> Result<Vec<u8>, Failure> {
    if args.recurse {
        client.kv_delete(&args.key, true, None).await?;
        return Ok(format!("Success! Deleted keys with prefix: {}\n", args.key).into());
    }
    let key = named(&args.key)?;
    if !client.kv_delete(key, false, args.modify_index).await? {
        return Err(not_matched("deleted", key));
    }
    Ok(format!("Success! Deleted key: {key}\n").into())
}

/// The text itself, `@FILE`, `-` for standard input; `\` takes the meaning from the first character.
pub(super) fn read_value(text: &str) -> Result<Vec<u8>, Failure> {
    if text == "-" {
        let mut input = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut input);
        read.map_err(|e| Failure::new("cannot read standard input").because(&e))?;
        return Ok(input);
    }
    if let Some(file) = text.strip_prefix('@') {
        return fs::read(file).map_err(|e| Failure::new(format!("cannot read {file}")).because(&e));
    }
    let literal = text.strip_prefix('\\').filter(|rest| rest.starts_with('@') || *rest == "-");
    Ok(literal.unwrap_or(text).as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &[u8]) -> KvEntry {
        KvEntry {
            lock_index: 0,
            key: "a/b".into(),
            flags: 3,
            value: value.to_vec().into(),
            session: String::new(),
            create_index: 7,
            modify_index: 1234,
        }
    }

    #[test]
    fn an_entry_is_shown_as_consul_shows_it() {
        let expected = "CreateIndex  7\nFlags        3\nKey          a/b\nLockIndex    0\nModifyIndex  1234\n\
                        Session      -\nValue        x y\n";
        assert_eq!(String::from_utf8(details(&entry(b"x y"), false)).unwrap(), expected);
        assert_eq!(pair(&entry(b"\xff"), false), b"a/b:\xff\n");
        assert_eq!(pair(&entry(b"\xff"), true), b"a/b:/w==\n");
    }

    #[test]
    fn a_value_is_itself_or_a_files_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v");
        fs::write(&file, b"\x00\xff").unwrap();
        let read = |text: &str| read_value(text).unwrap();
        assert_eq!(read(&format!("@{}", file.display())), b"\x00\xff");
        assert_eq!(
            (read("plain"), read(r"\@x"), read(r"\-"), read(r"\x")),
            ("plain".into(), "@x".into(), "-".into(), r"\x".into())
        );
        assert!(read_value("@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }

    #[test]
    fn the_level_above_a_key_is_suggested() {
        assert_eq!((parent("a/b/c"), parent("a")), ("a/b/", ""));
    }
}
