//! `kvstore tls`: an authority of one's own, and certificates that it vouches for, without another program.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use jiff::{Span, civil::Date};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::failure::Failure;
use crate::whole_file;

/// What the authority is called. Which one it is its key says.
const AUTHORITY: &str = "Flotilla authority";

/// An authority outlives what it vouches for.
const AUTHORITY_DAYS: u32 = 10 * 365;

/// What a server is called in any case.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Certificates for HTTPS.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore tls create registry.example 10.0.0.5
  kvstore tls create --help

Exit codes: 0 done; 1 a file cannot be written or read, or is there already; 2 the command is wrong.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
}

/// Makes a certificate for a server and one for its clients, and the authority that vouches for both where there is none
/// yet.
///
/// ca.pem is for everybody. ca-key.pem makes more certificates: keep it where nobody else reads it, on no server. For
/// another host run it again in the same directory, with another --name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore tls create registry.example 10.0.0.5
      tls/ca.pem, ca-key.pem, server.pem, server-key.pem, client.pem, client-key.pem
  kvstore tls create --name host2 --dir /etc/registry/tls 10.0.0.6
      a certificate for one more host, from the authority that is there
  kvstore tls create --renew registry.example 10.0.0.5
      new certificates before the old ones end; a running agent takes them up by itself")]
struct CreateArgs {
    /// The names and addresses by which clients reach the server; localhost is always among them.
    #[arg(value_name = "NAME|IP")]
    hosts: Vec<String>,
    /// Where the files are, or come to be.
    #[arg(long, value_name = "DIR", default_value = "tls")]
    dir: PathBuf,
    /// What the server's two files are called.
    #[arg(long, value_name = "NAME", default_value = "server", value_parser = file_name)]
    name: String,
    /// How long the certificates hold.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Put new certificates in place of those that are there; the authority stays.
    #[arg(long)]
    renew: bool,
}

/// One that stays in its directory, and is none of the authority's.
fn file_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    let taken = ["ca", "client"].contains(&text);
    if plain && !taken && !text.is_empty() && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("it is made of letters, digits, '-', '_' and '.', and is neither ca nor client".into())
    }
}

pub(super) fn run(args: Args) -> Result<Vec<u8>, Failure> {
    let Command::Create(args) = args.command;
    create(&args).map(Vec::from)
}

fn create(args: &CreateArgs) -> Result<String, Failure> {
    let dir = &args.dir;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| cannot_write(dir, &e))?;
    let server = Pair::of(dir, &args.name);
    let client = Pair::of(dir, "client");
    if !args.renew && server.certificate.exists() {
        let what = format!("{} is there already", server.certificate.display());
        return Err(Failure::new(what).hint("--renew puts a new one in its place, --name makes one for another host"));
    }
    let authority = authority(dir)?;
    let hosts = LOCAL.into_iter().map(String::from).chain(args.hosts.iter().cloned()).collect::<Vec<_>>();
    server.make(&authority, &args.name, hosts, ExtendedKeyUsagePurpose::ServerAuth, args.days)?;
    // One client's certificate does for all servers.
    if args.renew || !client.certificate.exists() {
        client.make(&authority, "client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, args.days)?;
    }
    let (ca, dir) = (dir.join("ca.pem"), dir.display());
    Ok(format!(
        "The certificates in {dir} hold for {} days. On the server:\n  \
         kvstore agent --https-addr 0.0.0.0:8501 --tls-cert {} --tls-key {} --tls-client-ca {}\n\
         Its clients, with ca.pem, client.pem and client-key.pem:\n  \
         CONSUL_HTTP_ADDR=https://{}:8501 CONSUL_CACERT={} CONSUL_CLIENT_CERT={} CONSUL_CLIENT_KEY={}\n",
        args.days,
        server.certificate.display(),
        server.key.display(),
        ca.display(),
        args.hosts.first().map_or("localhost", String::as_str),
        ca.display(),
        client.certificate.display(),
        client.key.display(),
    ))
}

/// A certificate and its key, as files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn of(dir: &Path, name: &str) -> Self {
        Self { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) }
    }

    fn make(
        &self,
        authority: &Issuer<'_, KeyPair>,
        name: &str,
        hosts: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
        days: u32,
    ) -> Result<(), Failure> {
        let wrong = |e: rcgen::Error| Failure::usage(format!("no certificate can be made for {name}")).because(&e);
        let mut params = params(name, hosts, days).map_err(wrong)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(wrong)?;
        let certificate = params.signed_by(&key, authority).map_err(wrong)?;
        // The key first: an agent that looks in between goes on with the old pair.
        write(&self.key, &key.serialize_pem(), 0o600)?;
        write(&self.certificate, &certificate.pem(), 0o644)
    }
}

fn params(name: &str, hosts: Vec<String>, days: u32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let today = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    // Clocks differ, and some are late.
    let (year, month, day) = numbers(today.saturating_sub(Span::new().days(1)));
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = numbers(today.saturating_add(Span::new().days(i64::from(days))));
    params.not_after = date_time_ymd(year, month, day);
    Ok(params)
}

/// Year, month and day.
fn numbers(day: Date) -> (i32, u8, u8) {
    let number = |n: i8| u8::try_from(n).expect("months and days are positive");
    (day.year().into(), number(day.month()), number(day.day()))
}

/// The authority of `dir`, made where there is none.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, Failure> {
    let files = Pair::of(dir, "ca");
    let wrong = |e: rcgen::Error| Failure::new(format!("{} cannot be used", files.key.display())).because(&e);
    let mut params = params(AUTHORITY, Vec::new(), AUTHORITY_DAYS).map_err(wrong)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = match (fs::read_to_string(&files.key), files.certificate.exists()) {
        (Ok(text), true) => KeyPair::from_pem(&text).map_err(wrong)?,
        (Err(e), false) if e.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(wrong)?;
            write(&files.key, &key.serialize_pem(), 0o600)?;
            write(&files.certificate, &params.self_signed(&key).map_err(wrong)?.pem(), 0o644)?;
            key
        }
        (Err(e), _) => return Err(Failure::new(format!("cannot read {}", files.key.display())).because(&e)),
        (Ok(_), false) => {
            let what = format!("{} is missing beside its key", files.certificate.display());
            return Err(Failure::new(what).hint("put it back, or choose another --dir to begin anew"));
        }
    };
    Ok(Issuer::new(params, key))
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    whole_file::write(file, text, mode).map_err(|e| cannot_write(file, &e))
}

fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write {}", file.display())).because(error)
}
