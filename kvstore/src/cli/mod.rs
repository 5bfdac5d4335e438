//! The command line: one file per subcommand. All but `agent` and `validate` talk to a registry over HTTP.
//!
//! Exit codes: 0 done, 1 failed, 2 the command or the configuration is wrong. Each command's help tells its own, or its
//! group's, or these.

mod acl;
mod agent;
mod catalog;
mod child;
mod dashes;
mod docs;
mod event;
mod failure;
mod format;
mod info;
mod kv;
mod kv_transfer;
mod lock;
mod members;
mod migrate;
mod operate;
mod progress;
mod query;
mod registry;
mod release;
mod rtt;
mod services;
mod session;
mod snapshot;
mod table;
mod tls;
mod validate;
mod watch;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Failure;
use format::FormatArgs;

const EXAMPLES: &str = "\
Examples:
  kvstore agent --dev                       a registry for trying out; keeps nothing
  kvstore agent --data-dir /var/lib/registry
  kvstore kv put config/colour blue         write a key
  kvstore kv get config/colour              read it
  kvstore services register --name web --port 8080
  kvstore catalog services                  what is registered
  dig @127.0.0.1 -p 8600 web.service.consul

Options may be spelled with one dash, as in Consul: -dev, -http-addr=127.0.0.1:8500.
Commands find the registry by --http-addr or CONSUL_HTTP_ADDR, else at 127.0.0.1:8500.

Exit codes: 0 done; 1 failed, the registry refused or did not answer; 2 the command or a configuration is wrong.
A command's own help says where it differs.";

/// The codes of a command that does not tell its own.
const CODES: &str = "Exit codes: 0 done; 1 the registry refused or did not answer; 2 the command is wrong.";

/// The registry: key-value store, catalog, health checks and DNS, speaking Consul's HTTP API.
#[derive(Debug, Parser)]
#[command(name = "kvstore", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(Box<agent::Args>),
    Kv(kv::Args),
    Catalog(catalog::Args),
    Services(services::Args),
    Lock(lock::Args),
    Session(session::Args),
    Query(query::Args),
    Acl(acl::Args),
    Release(release::Args),
    Watch(watch::Args),
    Event(event::Args),
    Snapshot(snapshot::Args),
    Migrate(migrate::Args),
    Maint(operate::MaintArgs),
    Members(members::Args),
    Join(members::JoinArgs),
    Leave(members::LeaveArgs),
    ForceLeave(members::ForceLeaveArgs),
    Rtt(rtt::Args),
    Info(info::Args),
    Monitor(operate::MonitorArgs),
    Reload(operate::ReloadArgs),
    Operator(operate::OperatorArgs),
    Tls(tls::Args),
    Validate(validate::Args),
    Completions(docs::CompletionsArgs),
    Man(docs::ManArgs),
    Reference(docs::ReferenceArgs),
    /// Prints the version.
    #[command(after_help = "Examples:\n  kvstore version\n  kvstore version --format json\n\nExit code: 0.")]
    Version(FormatArgs),
}

/// All commands, with what every help must tell.
fn commands() -> clap::Command {
    Cli::command().mut_subcommands(|inner| with_codes(inner, CODES))
}

/// Lets each command tell its exit codes, or `inherited`, those of its group.
fn with_codes(command: clap::Command, inherited: &str) -> clap::Command {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    match help.find("Exit code") {
        Some(at) => command.mut_subcommands(|inner| with_codes(inner, &help[at..])),
        None => {
            command.after_help(format!("{help}\n\n{inherited}")).mut_subcommands(|inner| with_codes(inner, inherited))
        }
    }
}

/// Runs the program with its arguments, its own name first, and gives its exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = dashes::double(args, &Cli::command());
    let parsed = commands().try_get_matches_from(args).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli.command).and_then(|output| print(&output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kvstore: {failure}");
            failure.code()
        }
    }
}

/// Carries out a command; what it is to print on standard output comes back.
fn run(command: Command) -> Result<Vec<u8>, Failure> {
    match command {
        Command::Agent(args) => agent::run(*args).map(|()| Vec::new()),
        Command::Kv(args) => wait_for(kv::run(args)),
        Command::Catalog(args) => wait_for(catalog::run(args)),
        Command::Services(args) => wait_for(services::run(args)),
        Command::Info(args) => wait_for(info::run(args)),
        Command::Lock(args) => wait_for(lock::run(args)),
        Command::Session(args) => wait_for(session::run(args)),
        Command::Query(args) => wait_for(query::run(args)),
        Command::Acl(args) => wait_for(acl::run(args)),
        Command::Release(args) => wait_for(release::run(args)),
        Command::Watch(args) => wait_for(watch::run(args)),
        Command::Event(args) => wait_for(event::run(args)),
        Command::Snapshot(args) => wait_for(snapshot::run(args)),
        Command::Migrate(args) => wait_for(migrate::run(args)),
        Command::Maint(args) => wait_for(operate::maint(args)),
        Command::Members(args) => wait_for(members::run(args)),
        Command::Join(args) => wait_for(members::join(args)),
        Command::Leave(args) => wait_for(members::leave(args)),
        Command::ForceLeave(args) => wait_for(members::force_leave(args)),
        Command::Rtt(args) => wait_for(rtt::run(args)),
        Command::Monitor(args) => wait_for(operate::monitor(args)),
        Command::Reload(args) => wait_for(operate::reload(args)),
        Command::Operator(args) => wait_for(operate::operator(args)),
        Command::Tls(args) => tls::run(args),
        Command::Validate(args) => validate::run(&args),
        Command::Completions(args) => Ok(docs::completions(&args, commands())),
        Command::Man(args) => docs::man(&args, commands()),
        Command::Reference(args) => Ok(docs::reference(&args, &commands())),
        Command::Version(format) => {
            let version = env!("CARGO_PKG_VERSION");
            Ok(format.show(&serde_json::json!({"Version": version}), |_| format!("kvstore {version}\n")))
        }
    }
}

/// Runs a client's command, which needs no more than the one thread.
fn wait_for(command: impl Future<Output = Result<Vec<u8>, Failure>>) -> Result<Vec<u8>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::new("cannot start").because(&e))?.block_on(command)
}

/// A reader that has seen enough, such as `head`, is no failure.
fn print(output: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(output).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write to standard output").because(&error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.get_name() == "help" || help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&commands());
    }

    #[test]
    fn every_command_tells_its_exit_codes_once() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert_eq!(help.matches("Exit code").count(), 1, "{}: {help}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        let command = commands();
        check(&command);
        let codes = |path: &[&str]| {
            let found = path.iter().fold(&command, |at, name| at.find_subcommand(name).unwrap());
            found.get_after_help().unwrap().to_string().split_once("Exit codes: ").unwrap().1.to_owned()
        };
        assert_eq!(codes(&["session", "renew"]), codes(&["session"]), "a group's codes are those of its commands");
        assert!(CODES.ends_with(&codes(&["leave"])));
    }
}
