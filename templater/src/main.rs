//! `templater`: arguments and signals in, exit code out.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser as _;
use kvstore_client::{
    logging::{self, LogFormat},
    monitoring, with_causes,
};
use nix::sys::signal::Signal;
use templater::{
    Ended, Order,
    cli::{CheckArgs, Cli, Command, ConvertArgs, HealthArgs, RenderArgs, RunArgs},
    config::{self, Config, ConfigWatch},
    convert, offline, reference, run,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => follow(cli.run),
        Some(Command::Check(args)) => check(args),
        Some(Command::Render(args)) => render(&args),
        Some(Command::Convert(args)) => convert(&args),
        Some(Command::Health(args)) => health(&args),
        Some(Command::Reference(args)) => {
            print!("{}", reference::page(args.page));
            ExitCode::SUCCESS
        }
        Some(Command::Version) => {
            println!("templater {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

/// `templater check`.
fn check(args: CheckArgs) -> ExitCode {
    // A destination of its own says nothing of a template.
    let templates = args.files.iter().map(|file| format!("{}:-", file.display())).collect();
    let run = RunArgs { templates, configs: args.configs, once: true, ..RunArgs::default() };
    let Ok(directory) = std::env::current_dir() else { return fail(1, "there is no working directory") };
    let checked = config::load(&run, &directory).map_err(|e| e.faults).and_then(|config| offline::check(&config));
    match checked {
        Ok(1) => println!("1 template is good"),
        Ok(good) => println!("{good} templates are good"),
        Err(faults) => return fail(1, &faults.join("\ntemplater: ")),
    }
    ExitCode::SUCCESS
}

/// `templater render`.
fn render(args: &RenderArgs) -> ExitCode {
    let rendered = offline::render(&args.template, args.data.as_deref());
    let compared = rendered.and_then(|text| match &args.expect {
        None => Ok((text, true)),
        Some(expected) => offline::compare(&text, expected).map(|diff| (diff.clone(), diff.is_empty())),
    });
    match compared {
        Ok((text, good)) => {
            print!("{text}");
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(1, &error),
    }
}

/// `templater convert`.
fn convert(args: &ConvertArgs) -> ExitCode {
    let text = match std::fs::read_to_string(&args.file) {
        Ok(text) => text,
        Err(error) => return fail(1, &format!("{}: {error}", args.file.display())),
    };
    let converted = convert::convert(&text);
    match &args.output {
        None => print!("{}", converted.text),
        Some(path) => {
            if let Err(error) = std::fs::write(path, &converted.text) {
                return fail(1, &format!("{}: {error}", path.display()));
            }
        }
    }
    for note in &converted.notes {
        eprintln!("{}:{}: {}", args.file.display(), note.line, note.message);
    }
    if converted.notes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `templater health`.
fn health(args: &HealthArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(monitoring::ask(args.http_addr))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(not_well)) => fail(1, &with_causes(&not_well)),
        Err(error) => fail(1, &format!("cannot start: {error}")),
    }
}

/// Renders until told to stop, or once.
fn follow(run: RunArgs) -> ExitCode {
    let directory = match std::env::current_dir() {
        Ok(directory) => directory,
        Err(error) => return fail(1, &format!("there is no working directory: {error}")),
    };
    let config = match config::load(&run, &directory) {
        Ok(config) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    if let Err(why) = start_log(config.log_format, &run.log_level) {
        return fail(2, &why);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config, run, directory));
            // What was cut off takes its commands down with it.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(error) => fail(1, &format!("cannot start threads: {error}")),
    }
}

async fn serve(config: Config, args: RunArgs, directory: PathBuf) -> ExitCode {
    let stop = CancellationToken::new();
    let (orders, taken) = mpsc::channel(16);
    let watch = ConfigWatch::new(&args, &directory, &config);
    tokio::select! {
        result = run(config, taken, stop.clone()) => match result {
            Ok(Ended::Well) => ExitCode::SUCCESS,
            Ok(Ended::WithProgram(code)) => ExitCode::from(code),
            Err(error) => fail(1, &with_causes(&error)),
        },
        () = follow_signals(args, directory, watch, orders, stop) => ExitCode::FAILURE,
    }
}

/// INT and TERM stop; a second one ends this call. HUP and a change of its files read the configuration again, other
/// signals are passed on.
async fn follow_signals(
    args: RunArgs,
    directory: PathBuf,
    mut watch: ConfigWatch,
    orders: mpsc::Sender<Order>,
    stop: CancellationToken,
) {
    let on = |kind| signal(kind).expect("the runtime has signals enabled");
    let (mut int, mut term, mut hup) =
        (on(SignalKind::interrupt()), on(SignalKind::terminate()), on(SignalKind::hangup()));
    let (mut quit, mut usr1, mut usr2, mut winch) = (
        on(SignalKind::quit()),
        on(SignalKind::user_defined1()),
        on(SignalKind::user_defined2()),
        on(SignalKind::window_change()),
    );
    loop {
        let order = tokio::select! {
            _ = int.recv() => None,
            _ = term.recv() => None,
            () = async { tokio::select! { _ = hup.recv() => {}, () = watch.changed() => {} } } => {
                watch.reading();
                match config::load(&args, &directory) {
                    Ok(config) => {
                        watch.follow(&config);
                        Some(Order::Configure(Box::new(config)))
                    }
                    Err(error) => {
                        error!("the new configuration is not used; the old one stays\n  cause: {error}");
                        continue;
                    }
                }
            },
            _ = quit.recv() => Some(Order::Forward(Signal::SIGQUIT)),
            _ = usr1.recv() => Some(Order::Forward(Signal::SIGUSR1)),
            _ = usr2.recv() => Some(Order::Forward(Signal::SIGUSR2)),
            _ = winch.recv() => Some(Order::Forward(Signal::SIGWINCH)),
        };
        if let Some(order) = order {
            // One that is being carried out must not keep a stop from being heard.
            if orders.try_send(order).is_err() {
                warn!("a signal came too soon after another one; send it again");
            }
            continue;
        }
        if stop.is_cancelled() {
            return;
        }
        info!("stopping");
        stop.cancel();
    }
}

fn start_log(format: LogFormat, level: &str) -> Result<(), String> {
    // A bare level is ours; libraries speak at warn.
    let bare = level.parse::<tracing::Level>().is_ok();
    let filter = if bare { format!("warn,templater={level},kvstore_client={level}") } else { level.to_owned() };
    let filter = EnvFilter::try_new(&filter).map_err(|e| format!("--log-level {level:?}: {e}"))?;
    logging::start(format, filter);
    Ok(())
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("templater: {message}");
    ExitCode::from(code)
}
