//! The command line. Knows flags and their spelling; what they amount to is `config`'s business.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use kvstore_client::{Access, logging::LogFormat};

const EXAMPLES: &str = "\
Examples:
  templater --template haproxy.tmpl
      keeps haproxy.cfg beside it; the running HAProxy checks each new version, then reloads it
  templater --template web.conf.tera:/etc/nginx/conf.d/web.conf
      the same for a part that nginx includes
  templater --template 'hosts.tmpl:/etc/hosts.d/web:systemctl reload dnsmasq'
      runs a command after each change
  templater --once --dry-run --template haproxy.tmpl
      shows what would change, after the check; writes nothing
  templater check haproxy.tmpl && templater render --template haproxy.tmpl --data mock.yaml --expect haproxy.cfg
      tests a template where there is no registry, as in CI
  templater --config /etc/templater.yaml --registry http://10.0.0.5:8500

A template in short (Tera):
  backend web
  {%- for s in service(name=\"web\") %}
      server {{ s.id | ident }} {{ s.address }}:{{ s.port }} check
  {%- endfor %}

Templates and configuration are read again when they change. Signals: HUP reads the configuration, INT and TERM stop, a
second one at once; with --exec, QUIT, USR1, USR2 and WINCH are passed on. systemd is told of readiness, status and life
(Type=notify, WatchdogSec=).";

/// Renders templates from the registry, has each result checked, swaps it in and reloads who uses it.
#[derive(Debug, Parser)]
#[command(name = "templater", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    /// What to do instead of rendering.
    pub command: Option<Command>,
    #[command(flatten)]
    /// What to render, and how.
    pub run: RunArgs,
}

/// What to do instead of rendering.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look for mistakes in templates: syntax, unknown functions, filters, arguments, includes. Needs no network.
    Check(CheckArgs),
    /// Render a template over made-up data to standard output, for tests. Needs no network.
    Render(RenderArgs),
    /// Convert templates of consul-template; what could not be converted is named with its line.
    Convert(ConvertArgs),
    /// Ask the templater that runs here how it does; 1 if not all is well.
    Health(HealthArgs),
    /// Print what this version takes and tells, as Markdown.
    Reference(ReferenceArgs),
    /// Print the version.
    Version,
}

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// Its --http-addr.
    #[arg(long, value_name = "IP:PORT", env = "TEMPLATER_HTTP_ADDR")]
    pub http_addr: SocketAddr,
}

/// Which page to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReferenceArgs {
    /// Of what.
    #[arg(value_enum)]
    pub page: Page,
}

/// A page of the reference.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Page {
    /// The commands with their options.
    Commands,
    /// The keys of the configuration file.
    Configuration,
    /// What is counted and measured.
    Metrics,
    /// The functions, filters and tests of templates.
    Templates,
}

/// What to convert.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// A template of consul-template's.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Which templates to look at.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub struct CheckArgs {
    /// Templates.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Configuration files, or directories of them, with all their templates.
    #[arg(short, long = "config", value_name = "PATH")]
    pub configs: Vec<PathBuf>,
}

const DATA: &str = "\
Data are YAML or JSON; everything may be left out:
  services:
    web:
      - {id: web-1, address: 10.0.0.1, port: 8080, tags: [v1], meta: {version: v1}, status: passing, node: {name: n1}}
  nodes: [{name: n1, address: 10.9.9.9}]
  keys: {app/name: shop}
  datacenters: [dc1]
  env: {HTTP_PORT: \"80\"}
  addresses: {eth0: [10.1.2.3]}
  now: 2024-05-06T07:08:09Z";

/// What to render over which data.
#[derive(Clone, Debug, Args)]
#[command(after_help = DATA)]
pub struct RenderArgs {
    /// The template.
    #[arg(short, long, value_name = "FILE")]
    pub template: PathBuf,
    /// What the registry and the host say; nothing at all unless given.
    #[arg(short, long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Compare with this file instead of printing; if it differs, print the difference and end with 1.
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
}

/// What to render, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// A template: its file, where its text goes, and a command to run after each change. Without DST the file lies
    /// beside the template, without the suffix .tmpl, .tera or .j2 (haproxy.tmpl gives haproxy.cfg, nginx.tmpl
    /// nginx.conf). `-` as DST is standard output, with --once. SRC may be a directory of templates, and DST then one for
    /// their texts. May be repeated.
    #[arg(short, long = "template", value_name = "SRC[:DST[:CMD]]")]
    pub templates: Vec<String>,
    /// A configuration file (YAML or JSON), or a directory of them. May be repeated; later ones win.
    #[arg(short, long = "config", value_name = "PATH")]
    pub configs: Vec<PathBuf>,
    /// The registry: `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`. May be repeated; the first that answers is used.
    #[arg(long = "registry", value_name = "URL", env = "CONSUL_HTTP_ADDR")]
    pub registries: Vec<String>,
    /// As whom to talk to it, and whom to trust to be it.
    #[command(flatten)]
    pub access: Access,
    /// Render everything once, then end: 0 if all is live and reloaded.
    #[arg(long)]
    pub once: bool,
    /// With --once: how long to wait for data.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub timeout: kvstore_client::GoDuration,
    /// Do everything but write and reload, once; print what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// How long data must be quiet before they are rendered while they keep changing, and how long to wait at most
    /// (default 50ms:500ms). The first change after a calm is rendered at once.
    #[arg(long, value_name = "QUIET[:MAX]")]
    pub debounce: Option<String>,
    /// Where to keep the record of the last reload, instead of beside each file.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// A program to run once all files are live; its end ends the templater, with its exit code. It is told of each
    /// change that nobody else is told of. The shell runs it as `exec CMD`.
    #[arg(long, value_name = "CMD", conflicts_with_all = ["once", "dry_run"])]
    pub exec: Option<String>,
    /// With --exec: the signal that tells it of a change. Without one it is ended and started anew.
    #[arg(long, value_name = "SIGNAL", requires = "exec")]
    pub exec_reload_signal: Option<String>,
    /// With --exec: the signal that asks it to end (default TERM).
    #[arg(long, value_name = "SIGNAL", requires = "exec")]
    pub exec_kill_signal: Option<String>,
    /// With --exec: how long it may take to end before it is killed (default 30s).
    #[arg(long, value_name = "DURATION", requires = "exec")]
    pub exec_kill_timeout: Option<kvstore_client::GoDuration>,
    /// With --exec: tell it of a change after a random time up to this (default 0s).
    #[arg(long, value_name = "DURATION", requires = "exec")]
    pub exec_splay: Option<kvstore_client::GoDuration>,
    /// A file to write the process id to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Answer /healthz and /metrics at this address.
    #[arg(long, value_name = "IP:PORT", env = "TEMPLATER_HTTP_ADDR")]
    pub http_addr: Option<SocketAddr>,
    /// How the log on standard error looks.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, or a filter such as templater=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "TEMPLATER_LOG")]
    pub log_level: String,
}
