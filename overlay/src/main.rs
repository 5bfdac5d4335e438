//! The encrypted overlay. Its data plane comes in a later version; this one can only tell its version.

use clap::{Parser, Subcommand};

/// Gives containers on different hosts addresses that reach each other, encrypted.
///
/// The overlay itself is not in this version yet.
#[derive(Parser)]
#[command(name = "overlay", version, after_help = "Examples:\n  overlay version")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the version.
    Version,
}

fn main() {
    match Arguments::parse().command {
        Command::Version => println!("overlay {}", env!("CARGO_PKG_VERSION")),
    }
}
