//! `kvstore lock`: runs a program while it holds a lock, so that of many hosts one runs it.

mod place;
mod step;

use std::{
    io::{IsTerminal, stdin},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use kvstore_client::{Client, GoDuration, types::SessionRequest};
use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use self::place::{Lost, Place};
use super::{
    child::{self, Running, Stops},
    failure::Failure,
    registry::RegistryArgs,
};

/// A lock outlives its holder, should that vanish, by no more than this and the lock delay.
const TTL: Duration = Duration::from_secs(15);

/// Runs a program while holding a lock.
///
/// Waits for the lock, runs CHILD with `CONSUL_LOCK_HELD=true`, and gives the lock back when it has ended. The lock is
/// the key PREFIX/.lock, held by a session that is renewed; Consul's own `lock` and libraries exclude each other with
/// this. If the lock is lost, CHILD is told to end by TERM, and killed if it does not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore lock jobs/backup ./backup.sh --full
  kvstore lock --timeout 5s --child-exit-code jobs/backup './backup.sh && date > /tmp/last'
  kvstore lock -n 3 jobs/render ./render.sh       three at the same time, on all hosts together

A single CHILD is a line for the shell; several words are a program and its arguments.
INT, TERM, HUP and QUIT are handed on to CHILD; it is killed if it has not ended --kill-after later.
Exit codes: 0 CHILD has ended, or was stopped by a signal to us; 1 the lock was not obtained, was lost or could not be
given back; 2 CHILD failed and --child-exit-code was given, or the command is wrong.")]
pub(super) struct Args {
    /// So many may hold the lock at the same time; the same number for all who share it.
    #[arg(short = 'n', value_name = "HOLDERS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    holders: u16,
    /// What the session is called.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The longest time to wait for the lock; 0: for ever.
    #[arg(long, alias = "try", value_name = "DURATION", default_value = "0s")]
    timeout: GoDuration,
    /// How long CHILD has to end before it is killed.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    kill_after: GoDuration,
    /// Exit with code 2 if CHILD fails.
    #[arg(long)]
    child_exit_code: bool,
    /// Let CHILD read our standard input.
    #[arg(long)]
    pass_stdin: bool,
    /// Accepted: a lock is not lost by failing questions, but by a session that was not renewed.
    #[arg(long, hide = true)]
    monitor_retry: Option<u32>,
    /// Tell what happens.
    #[arg(long)]
    verbose: bool,
    /// Whether CHILD goes through $SHELL; only a single word unless said.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    shell: Option<bool>,
    /// Where the lock is.
    prefix: String,
    /// The program to run, and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CHILD")]
    child: Vec<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: Args) -> Result<Vec<u8>, Failure> {
    child::no_option(&args.child)?;
    let mut stops = Stops::take().map_err(|e| Failure::new("cannot take signals").because(&e))?;
    let client = args.registry.clone().client()?;
    let asked = Instant::now();
    let place = Place {
        session: create_session(&client, &args).await?,
        client,
        prefix: args.prefix.trim_matches('/').into(),
        limit: args.holders.into(),
    };
    args.say(|| format!("session {} is there; waiting for {}", place.session, place.key()));
    let ended = args.hold(&place, asked, &mut stops).await;
    let left = leave(&place).await;
    args.say(|| "the session has ended".into());
    let status = ended?;
    left?;
    match status {
        Some(status) if !status.success() => {
            let failure = Failure::new(format!("the child failed: {status}")).exiting(2);
            if args.child_exit_code {
                return Err(failure);
            }
            eprintln!("kvstore: {failure}");
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    }
}

async fn create_session(client: &Client, args: &Args) -> Result<String, Failure> {
    let name = || format!("kvstore lock of {:?} at {}", args.child.join(" "), args.prefix);
    let request = SessionRequest {
        name: args.name.clone().unwrap_or_else(name),
        ttl: Some(GoDuration(TTL)),
        // The key of one who wants a place goes with its session.
        behavior: if args.holders > 1 { "delete".into() } else { String::new() },
        ..SessionRequest::default()
    };
    Ok(client.session_create(&request).await?)
}

/// Gives back what there is, also after a failure; the session's end gives back what this does not.
async fn leave(place: &Place) -> Result<(), Failure> {
    let released = place.release().await;
    let destroyed = place.client.session_destroy(&place.session).await;
    let cleaned = place.clean_up().await;
    released.and(destroyed).and(cleaned).map_err(|error| {
        Failure::new(format!("{} could not be given back; it comes free within {TTL:?}", place.key())).because(&error)
    })
}

impl Args {
    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("kvstore: {}", what());
        }
    }

    /// Waits for the lock and runs the child under it; nothing comes back of a child that a signal stopped.
    async fn hold(&self, place: &Place, known: Instant, stops: &mut Stops) -> Result<Option<ExitStatus>, Failure> {
        let lease = place.renewed(TTL, known);
        tokio::pin!(lease);
        let limit = Some(self.timeout.0).filter(|limit| !limit.is_zero()).unwrap_or(Duration::MAX);
        tokio::select! {
            biased;
            signal = stops.next() => return Err(Failure::new(format!("{signal} came before the lock"))),
            lost = &mut lease => return Err(lost_by(place, &lost)),
            acquired = timeout(limit, place.acquire()) => acquired.unwrap_or_else(|_| {
                Err(Failure::new(format!("{} was not free within {}", place.key(), self.timeout)))
            })?,
        }
        self.say(|| format!("{} is held; starting the child", place.key()));
        let mut child = self.start()?;
        let lost = tokio::select! {
            ended = child.wait() => return ended.map(Some).map_err(|e| unwaited(&e)),
            signal = stops.next() => {
                self.say(|| format!("{signal} is handed on to the child"));
                return self.end(&mut child, signal, lease).await.map(|()| None);
            }
            lost = &mut lease => lost,
            lost = place.taken_away() => lost,
        };
        self.say(|| format!("{} is lost: {lost}; ending the child", place.key()));
        child.end(Signal::SIGTERM, self.kill_after.0).await.map_err(|e| unwaited(&e))?;
        Err(lost_by(place, &lost))
    }

    /// Ends the child, whom the lock protects to its end.
    async fn end(&self, child: &mut Running, signal: Signal, lease: impl Future<Output = Lost>) -> Result<(), Failure> {
        let ending = child.end(signal, self.kill_after.0);
        tokio::pin!(ending);
        tokio::select! {
            ended = &mut ending => ended,
            // It is being ended already, so its loss changes nothing.
            _ = lease => ending.await,
        }
        .map(drop)
        .map_err(|e| unwaited(&e))
    }

    fn start(&self) -> Result<Running, Failure> {
        let mut command = child::command(&self.child, self.shell);
        command.env("CONSUL_LOCK_HELD", "true");
        if !self.pass_stdin {
            command.stdin(Stdio::null());
        }
        // In a group of its own it could not read from our terminal.
        let apart = !(self.pass_stdin && stdin().is_terminal());
        let shown = || Failure::new(format!("cannot start {:?}", self.child.join(" ")));
        Running::start(command, apart).map_err(|e| shown().because(&e))
    }
}

fn lost_by(place: &Place, lost: &Lost) -> Failure {
    Failure::new(format!("the lock {} is lost: {lost}", place.key()))
}

fn unwaited(error: &std::io::Error) -> Failure {
    Failure::new("cannot wait for the child").because(error)
}
