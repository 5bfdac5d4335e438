//! `kvstore watch`: runs a program at each change of something, or prints it.

use std::{io, io::Write, process::ExitStatus, process::Stdio, time::Duration};

use kvstore_client::{Client, Error, Read, Select, Wait, Watch};
use serde::Serialize;
use tokio::{
    io::AsyncWriteExt,
    sync::watch::{Receiver, Sender, channel},
};

use super::{
    child::{self, Running, Stops},
    failure::Failure,
    format::prettied,
    registry::RegistryArgs,
};

/// How long a single query waits for news.
const WAIT: Duration = Duration::from_mins(5);

/// How long a handler has to end when the watch is stopped.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a program with the current state of something, and again at each change.
///
/// The program finds the state on its standard input, as JSON, and its index in `CONSUL_INDEX`. One runs at a time; what
/// changed meanwhile is given to the next, once, in its latest state. Without a program the state is printed, once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore watch --type key --key config/colour
  kvstore watch --type service --service web --passingonly=true ./update-proxy.sh
  kvstore watch --type keyprefix --prefix config/ 'jq length > /tmp/count'
  kvstore watch --type checks --state critical --follow | while read -r checks; do ...; done
  kvstore watch --type event --name deploy ./deploy.sh --now

A single CHILD is a line for the shell; several words are a program and its arguments.
While the registry is away the watch says so, and tries again with growing pauses of up to 5 s.
Exit codes: 0 printed, or stopped by INT, TERM, HUP or QUIT; 1 the program failed, or the first question to the
registry did; 2 the command is wrong.")]
pub(super) struct Args {
    /// What is watched.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Kind,
    /// The key, for type key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What keys begin with, for type keyprefix.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The service, for types service and checks.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only instances with this tag, for type service. May be repeated: with all of them.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only instances all of whose checks pass, for type service.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    passingonly: Option<bool>,
    /// Only checks in this state, for type checks: any, passing, warning or critical.
    #[arg(long, value_name = "STATE", conflicts_with = "service")]
    state: Option<String>,
    /// Only events of this name, for type event.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Prints each new state as a line, instead of the first alone.
    #[arg(long, conflicts_with = "child")]
    follow: bool,
    /// Whether CHILD goes through $SHELL; only a single word unless said.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    shell: Option<bool>,
    /// The program to run, and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CHILD")]
    child: Vec<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Key,
    Keyprefix,
    Services,
    Nodes,
    Service,
    Checks,
    Event,
}

/// What is watched, and how it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Key(String),
    Prefix(String),
    Services,
    Nodes,
    Service(String, Select),
    ChecksOf(String),
    ChecksIn(String),
    Events(String),
}

impl Subject {
    fn of(args: &Args) -> Result<Self, Failure> {
        let given = |value: &Option<String>, option: &str| {
            let found = value.clone().filter(|value| !value.is_empty());
            found.ok_or_else(|| Failure::usage(format!("this type of watch needs {option}")))
        };
        Ok(match args.kind {
            Kind::Key => Self::Key(given(&args.key, "--key")?),
            // An empty prefix is every key.
            Kind::Keyprefix => Self::Prefix(args.prefix.clone().ok_or_else(|| Failure::usage("give a --prefix"))?),
            Kind::Services => Self::Services,
            Kind::Nodes => Self::Nodes,
            Kind::Service => {
                let passing = args.passingonly == Some(true);
                let select = Select { passing, tags: args.tag.clone(), ..Select::default() };
                Self::Service(given(&args.service, "--service")?, select)
            }
            Kind::Checks => match &args.service {
                Some(_) => Self::ChecksOf(given(&args.service, "--service")?),
                None => Self::ChecksIn(args.state.clone().unwrap_or_else(|| "any".into())),
            },
            Kind::Event => Self::Events(args.name.clone().unwrap_or_default()),
        })
    }

    /// Its state as JSON, in the words of the API.
    async fn read(&self, client: &Client, wait: Option<Wait>) -> Result<Read<String>, Error> {
        match self {
            Self::Key(key) => client.kv_get(key, wait).await.map(json),
            Self::Prefix(prefix) => client.kv_list(prefix, wait).await.map(json),
            Self::Services => client.catalog_services(wait).await.map(json),
            Self::Nodes => client.catalog_nodes(wait).await.map(json),
            Self::Service(name, select) => client.health_service_of(name, select, wait).await.map(json),
            Self::ChecksOf(service) => client.health_checks(service, wait).await.map(json),
            Self::ChecksIn(state) => client.health_state(state, wait).await.map(json),
            Self::Events(name) => client.events(name, wait).await.map(json),
        }
    }
}

fn json<T: Serialize>(read: Read<T>) -> Read<String> {
    let Read { index, value } = read;
    Read { index, value: serde_json::to_string(&value).expect("API types have string keys only") }
}

/// A state, and where it stood.
#[derive(Clone, Debug)]
struct Seen {
    index: u64,
    json: String,
}

/// Follows `subject`.
struct Following {
    client: Client,
    subject: Subject,
    watch: Watch<String>,
}

impl Following {
    async fn next(&mut self) -> Result<Seen, Error> {
        let json = self.watch.next(|wait| self.subject.read(&self.client, wait)).await?;
        Ok(Seen { index: self.watch.seen_at(), json })
    }

    /// The next state, however long it takes; says what is in the way, each thing once.
    async fn next_at_last(&mut self) -> Seen {
        let mut said = String::new();
        loop {
            match self.next().await {
                Ok(seen) => return seen,
                Err(error) => {
                    let failure = Failure::from(error).to_string();
                    if failure != said {
                        eprintln!("kvstore: {failure}\n  trying again");
                        said = failure;
                    }
                }
            }
        }
    }
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    child::no_option(&args.child)?;
    let (subject, client) = (Subject::of(&args)?, args.registry.client()?);
    let mut following = Following { client, subject, watch: Watch::new(WAIT) };
    // The first question is not repeated, so that a wrong address or name is told at once.
    let first = following.next().await?;
    if !args.child.is_empty() {
        return handle_each(&args.child, args.shell, first, following).await.map(|()| Vec::new());
    }
    if args.follow {
        return print_each(first, following).await.map(|()| Vec::new());
    }
    Ok(prettied(&first.json))
}

/// One state a line, for ever, or until nobody reads.
async fn print_each(first: Seen, mut following: Following) -> Result<(), Failure> {
    let mut seen = first;
    loop {
        let mut out = io::stdout().lock();
        match writeln!(out, "{}", seen.json).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|e| Failure::new("cannot write to standard output").because(&e))?,
        }
        drop(out);
        seen = following.next_at_last().await;
    }
}

/// Runs the handler for one state after the other, until it fails or we are stopped.
async fn handle_each(
    words: &[String],
    shell: Option<bool>,
    first: Seen,
    mut following: Following,
) -> Result<(), Failure> {
    let stops = Stops::take().map_err(|e| Failure::new("cannot take signals").because(&e))?;
    let (news, latest): (Sender<Seen>, Receiver<Seen>) = channel(first);
    tokio::select! {
        // A newer state takes the place of one that no handler has seen.
        () = async { loop { news.send_replace(following.next_at_last().await); } } => Ok(()),
        ended = handle(words, shell, latest, stops) => ended,
    }
}

async fn handle(
    words: &[String],
    shell: Option<bool>,
    mut latest: Receiver<Seen>,
    mut stops: Stops,
) -> Result<(), Failure> {
    let shown = words.join(" ");
    loop {
        let seen = latest.borrow_and_update().clone();
        let mut handler = start(words, shell, &seen)
            .map_err(|e| Failure::new(format!("cannot start the handler {shown:?}")).because(&e))?;
        let ended = tokio::select! {
            ended = to_the_end(&mut handler, &seen.json) => ended,
            signal = stops.next() => return handler.end(signal, GRACE).await.map(drop).map_err(|e| lost(&e)),
        };
        let status = ended.map_err(|e| lost(&e))?;
        if !status.success() {
            return Err(Failure::new(format!("the handler {shown:?} failed: {status}")));
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return Ok(()) },
            _ = stops.next() => return Ok(()),
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::new("cannot wait for the handler").because(error)
}

fn start(words: &[String], shell: Option<bool>, seen: &Seen) -> io::Result<Running> {
    let mut command = child::command(words, shell);
    command.env("CONSUL_INDEX", seen.index.to_string()).stdin(Stdio::piped());
    Running::start(command, true)
}

/// Feeds the handler and waits for its end; it need not read all, or anything.
async fn to_the_end(handler: &mut Running, json: &str) -> io::Result<ExitStatus> {
    let input = handler.child.stdin.take();
    let feed = async move {
        if let Some(mut input) = input {
            let _ = input.write_all(json.as_bytes()).await;
            let _ = input.write_all(b"\n").await;
        }
    };
    tokio::select! {
        ended = handler.wait() => ended,
        never = async { feed.await; std::future::pending().await } => never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn subject(line: &str) -> Result<Subject, String> {
        let line = Line::try_parse_from(format!("watch {line}").split(' ')).map_err(|e| e.to_string())?;
        Subject::of(&line.args).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_watched_needs_its_name() {
        let web = Select { passing: true, tags: vec!["a".into(), "b".into()], ..Select::default() };
        for (line, expected) in [
            ("--type key --key a/b", Subject::Key("a/b".into())),
            ("--type keyprefix --prefix a/", Subject::Prefix("a/".into())),
            ("--type service --service web --tag a --tag b --passingonly=true", Subject::Service("web".into(), web)),
            ("--type service --service web", Subject::Service("web".into(), Select::default())),
            ("--type checks", Subject::ChecksIn("any".into())),
            ("--type checks --state critical", Subject::ChecksIn("critical".into())),
            ("--type checks --service web", Subject::ChecksOf("web".into())),
            ("--type event ./x --name y", Subject::Events(String::new())),
        ] {
            assert_eq!(subject(line), Ok(expected), "{line}");
        }
        for (line, why) in [
            ("--type key", "--key"),
            ("--type keyprefix", "--prefix"),
            ("--type service --tag a", "--service"),
            ("--type checks --service web --state any", "cannot be used"),
            ("--type leaves", "leaves"),
            ("--key a", "--type"),
        ] {
            let said = subject(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
