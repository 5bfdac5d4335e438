//! `kvstore rtt`: how far hosts are from each other, by the coordinates that they have put into the registry.

use kvstore_client::types::{Coordinate, NodeCoordinate};

use super::{failure::Failure, registry::RegistryArgs};
use crate::coordinates::distance;

/// Estimates the round-trip time between two hosts from their coordinates.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore rtt host1             from the agent's own host
  kvstore rtt host1 host2

Coordinates are put into the registry by others; the registry does not measure.
Exit codes: 0 printed; 1 a host has no coordinate, or no answer; 2 the command is wrong.")]
pub(super) struct Args {
    /// A host's name.
    first: String,
    /// Another one's; the agent's own unless given.
    second: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let client = args.registry.client()?;
    let second = if let Some(name) = args.second {
        name
    } else {
        let about = client.agent_self().await?;
        about["Config"]["NodeName"].as_str().unwrap_or_default().to_owned()
    };
    let known = client.coordinates().await?;
    let (a, b) = pair(&known, &args.first, &second)?;
    let millis = distance(a, b) * 1000.0;
    Ok(format!("Estimated {} <-> {second} rtt: {millis:.3} ms (using LAN coordinates)\n", args.first).into())
}

/// The coordinates of both in one segment.
fn pair<'a>(
    known: &'a [NodeCoordinate],
    first: &str,
    second: &str,
) -> Result<(&'a Coordinate, &'a Coordinate), Failure> {
    let of = |name: &str| {
        let own: Vec<_> = known.iter().filter(|at| at.node.eq_ignore_ascii_case(name)).collect();
        let none = || Failure::new(format!("the registry has no coordinate of {name:?}")).hint("kvstore catalog nodes");
        if own.is_empty() { Err(none()) } else { Ok(own) }
    };
    let (first_at, second_at) = (of(first)?, of(second)?);
    let mut both = first_at.iter().flat_map(|a| second_at.iter().map(move |b| (a, b)));
    let same = both.find(|(a, b)| a.segment == b.segment && a.coord.vec.len() == b.coord.vec.len());
    same.map(|(a, b)| (&a.coord, &b.coord))
        .ok_or_else(|| Failure::new(format!("{first} and {second} are in no common segment")))
}
