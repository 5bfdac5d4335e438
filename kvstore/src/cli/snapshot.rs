//! `kvstore snapshot`: the whole state as a file, and back. What a file holds is checked here, too.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kvstore_client::{Client, Download};
use serde::Serialize;

use super::{
    failure::Failure,
    format::FormatArgs,
    progress,
    registry::RegistryArgs,
    table::{columns, row},
};
use crate::{
    snapshot::{self, Damage, Meta},
    whole_file,
};

/// A registry may take its time to read and write all it has.
const RESTORE_LIMIT: Duration = Duration::from_mins(10);

/// A file that unpacks to more is not looked into.
const MAX_BYTES: u64 = 16 << 30;

/// Saves and restores the whole state.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore snapshot save backup.snap
  kvstore snapshot inspect backup.snap
  kvstore snapshot restore backup.snap

An agent takes snapshots by itself with `kvstore agent --snapshot-dir DIR --snapshot-every 1h --snapshot-keep 24`.

Exit codes: 0 done; 1 no answer, or the file is damaged; 2 the command is wrong.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Save(SaveArgs),
    Restore(RestoreArgs),
    Inspect(InspectArgs),
}

/// Saves the state into a file, which is there whole and verified, or not at all.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kvstore snapshot save backup.snap\n  kvstore snapshot save backup-$(date +%F).snap"
)]
struct SaveArgs {
    /// Where to; a file of this name is replaced.
    file: PathBuf,
}

/// Puts the state of a file in place of all there is in the registry.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kvstore snapshot restore backup.snap")]
struct RestoreArgs {
    /// The file; it is verified before anything is sent.
    file: PathBuf,
}

/// Verifies a file, and shows what is in it; needs no registry.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore snapshot inspect backup.snap
  kvstore snapshot inspect --format json backup.snap")]
struct InspectArgs {
    /// The file.
    file: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    match args.command {
        Command::Save(save_args) => save(&args.registry.client()?, &save_args.file).await,
        Command::Restore(restore_args) => {
            restore(&args.registry.client_within(RESTORE_LIMIT)?, &restore_args.file).await
        }
        Command::Inspect(args) => Ok(args.format.show(&Content::of(&args.file)?, Content::table)),
    }
}

async fn save(client: &Client, file: &Path) -> Result<Vec<u8>, Failure> {
    let mut download = client.snapshot_save().await?;
    let unfinished = Unfinished(with_suffix(file, ".unverified"));
    write(&mut download, &unfinished.0).await?;
    match verified(&unfinished.0) {
        // Its sums were right; what it holds is for another registry to say.
        Ok(_) | Err(Damage::Foreign) => {}
        Err(damage) => return Err(Failure::new("the registry sent a damaged snapshot").because(&damage)),
    }
    whole_file::put(&unfinished.0, file).map_err(|e| cannot_write(file, &e))?;
    let (index, file) = (download.index, file.display());
    Ok(format!("Saved and verified snapshot to index {index}: {file}\n").into())
}

/// A file that is not what it should become; removed when dropped, unless it has another name by then.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write {}", file.display())).because(error)
}

/// For nobody else to read: keys may be secrets.
async fn write(download: &mut Download, path: &Path) -> Result<(), Failure> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = open.map_err(|e| cannot_write(path, &e))?;
    let read = progress::bytes("reading the snapshot");
    while let Some(piece) = download.next().await? {
        file.write_all(&piece).map_err(|e| cannot_write(path, &e))?;
        read.inc(piece.len() as u64);
    }
    file.sync_all().map_err(|e| cannot_write(path, &e))
}

type Rows = Vec<kvstore_core::row::Stamped<kvstore_core::row::Row>>;

fn verified(path: &Path) -> Result<(Meta, Rows), Damage> {
    let file = File::open(path).map_err(Damage::Gzip)?;
    snapshot::read(BufReader::new(file), MAX_BYTES)
}

fn damaged(file: &Path, damage: &Damage) -> Failure {
    Failure::new(format!("{} is no whole snapshot of kvstore", file.display())).because(damage)
}

async fn restore(client: &Client, file: &Path) -> Result<Vec<u8>, Failure> {
    let content = Content::of(file)?;
    let archive = fs::read(file).map_err(|e| Failure::new(format!("cannot read {}", file.display())).because(&e))?;
    let restoring = progress::waiting("restoring");
    client.snapshot_restore(archive).await?;
    drop(restoring);
    Ok(format!("Restored snapshot of index {}\n", content.meta.index).into())
}

/// What is in a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    #[serde(flatten)]
    meta: Meta,
    /// How many there are of each kind.
    rows: BTreeMap<String, usize>,
}

impl Content {
    fn of(file: &Path) -> Result<Self, Failure> {
        fs::metadata(file).map_err(|e| Failure::new(format!("cannot read {}", file.display())).because(&e))?;
        let (meta, found) = verified(file).map_err(|damage| damaged(file, &damage))?;
        let mut rows = BTreeMap::new();
        for row in found {
            *rows.entry(kind(&row.value.key().encode())).or_default() += 1;
        }
        Ok(Self { meta, rows })
    }

    fn table(&self) -> String {
        let meta = &self.meta;
        let facts = [
            row(["ID", &meta.id]),
            row(["Size", &meta.size.to_string()]),
            row(["Index", &meta.index.to_string()]),
            row(["Term", &meta.term.to_string()]),
            row(["Version", &meta.version.to_string()]),
        ];
        let rows = self.rows.iter().map(|(kind, count)| row([kind, &count.to_string()]));
        let counts: Vec<_> = std::iter::once(row(["Type", "Count"])).chain(rows).collect();
        format!("{}\n{}", columns(&facts), columns(&counts))
    }
}

/// What the row with this key is one of.
pub(super) fn kind(key: &str) -> String {
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        ["n", _] => "nodes",
        ["n", _, "i", ..] => "instances",
        ["n", _, "c", ..] => "checks",
        ["k", ..] => "keys",
        ["s", ..] => "sessions",
        ["q", ..] => "queries",
        [table, ..] => table,
        [] => "",
    };
    name.into()
}
