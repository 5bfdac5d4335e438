//! A whole registry from one store to another: out of a data directory into an etcd, and back.

use std::{collections::BTreeMap, path::PathBuf};

use kvstore_core::row::{Row, Stamped};
use serde::Serialize;

use super::{Args, Failure, LEFT, columns, progress, row};
use crate::{
    cli::snapshot::kind,
    config::EngineName,
    engine::{
        EngineError,
        moving::{Home, Leaving, Sum},
    },
};

/// From where to where, if the command is about stores and not about registries that answer.
///
/// # Errors
/// If it is about one of each, or says what means nothing for stores.
pub(super) fn homes(args: &Args) -> Result<Option<(Home, Home)>, Failure> {
    let from = home(args.from.as_deref(), args.from_data_dir.as_ref())?;
    let to = home(args.to.as_deref(), args.to_data_dir.as_ref())?;
    let both = match (from, to) {
        (None, None) => return Ok(None),
        (Some(from), Some(to)) => (from, to),
        (Some(from), None) => {
            return Err(Failure::usage(format!("what is in {from} is moved as a whole, and it was not said where to"))
                .hint("--to etcd://HOST:PORT,... or --to-data-dir DIR, of which no kvstore runs"));
        }
        (None, Some(to)) => {
            return Err(Failure::usage(format!("{to} takes a whole registry out of another store only")).hint(
                "--from-data-dir DIR or --from etcd://HOST:PORT,...; or run kvstore agent there, and name that by --to",
            ));
        }
    };
    let unfit = [
        ("--overwrite", args.overwrite),
        ("--all-services", args.all_services),
        ("--from-token-file", args.from_token_file.is_some()),
    ];
    match unfit.into_iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Failure::usage(format!("{name} is for --from with the address of a Consul"))),
        None => Ok(Some(both)),
    }
}

fn home(address: Option<&str>, data_dir: Option<&PathBuf>) -> Result<Option<Home>, Failure> {
    if let Some(dir) = data_dir {
        return Ok(Some(Home::DataDir(dir.clone())));
    }
    let Some(address) = address.filter(|address| address.starts_with("etcd:")) else { return Ok(None) };
    match address.parse().map_err(Failure::usage)? {
        #[cfg(feature = "etcd")]
        EngineName::Etcd(address) => Ok(Some(Home::Etcd(address))),
        EngineName::Memory | EngineName::Embedded => Ok(None),
    }
}

/// Carries all of it, or nothing.
pub(super) async fn run(args: &Args, from: &Home, to: &Home) -> Result<Vec<u8>, Failure> {
    to.check_vacant().await?;
    let leaving = Leaving::begin(from, to, args.dry_run).await?;
    let report = Report::of(from, to, &leaving, args.dry_run);
    if !args.dry_run {
        let counted = progress::counting("rows", leaving.whole.rows.len());
        let done = |rows| counted.inc(rows as u64);
        let moved = tokio::select! {
            biased;
            moved = to.take(from, &leaving.whole, &done) => moved.map_err(|error| {
                Failure::from(error).hint("run it again; nothing is used of what was begun")
            }),
            _ = tokio::signal::ctrl_c() => Err(Failure::new(format!("stopped; the registry is still in {from}"))),
        };
        drop(counted);
        if let Err(failure) = moved {
            leaving.stay().await?;
            return Err(failure);
        }
    }
    let shown = args.format.show(&report, table);
    if report.left.is_empty() {
        return Ok(shown);
    }
    crate::cli::print(&shown)?;
    Err(Failure::new(format!("what is no row was left in {from}; the report names it")).exiting(LEFT))
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(error.to_string()).because(&error)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    from: String,
    to: String,
    dry_run: bool,
    /// The last that was given out.
    index: u64,
    /// How many there are of each kind.
    rows: BTreeMap<String, usize>,
    sha256: String,
    /// What is there under the key of a row, and is none.
    left: Vec<String>,
}

impl Report {
    fn of(from: &Home, to: &Home, leaving: &Leaving, dry_run: bool) -> Self {
        let mut rows = BTreeMap::new();
        for Stamped { value, .. } in &leaving.whole.rows {
            *rows.entry(kind(&Row::key(value).encode())).or_default() += 1;
        }
        let (from, to) = (from.to_string(), to.to_string());
        let sha256 = Sum::of(&leaving.whole.rows).sha256;
        Self { from, to, dry_run, index: leaving.whole.index.0, rows, sha256, left: leaving.unreadable.clone() }
    }
}

fn table(report: &Report) -> String {
    let counts = report.rows.iter().map(|(kind, count)| row([kind, &count.to_string()]));
    let counts = columns(&std::iter::once(row(["Type", "Count"])).chain(counts).collect::<Vec<_>>());
    let Report { from, to, index, sha256, .. } = report;
    let rows: usize = report.rows.values().sum();
    let what = if report.dry_run { "Would move" } else { "Moved and verified" };
    let left = match &report.left[..] {
        [] => String::new(),
        left => format!("\nLeft, since they are no rows:\n{}\n", left.join("\n")),
    };
    format!(
        "{counts}\n{what} {rows} rows (SHA-256 {sha256})\nfrom {from}\nto {to}; indexes go on after {index}\n{left}"
    )
}
