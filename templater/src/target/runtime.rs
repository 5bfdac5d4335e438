//! HAProxy without a reload: where two configurations differ only in what servers are, its runtime socket can tell it.
//!
//! Which commands lead from one to the other is decided purely; [`apply`] sends them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// HAProxy answers a command at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Of an answer, this much is read.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// More commands than this take longer than a reload.
const MAX_COMMANDS: usize = 1000;

/// Where HAProxy listens for commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// A Unix socket.
    Path(PathBuf),
    /// `HOST:PORT`.
    Address(String),
}

impl FromStr for Socket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Address(text.into())),
            _ => Err(format!("{text:?} is no runtime socket; give /PATH or HOST:PORT")),
        }
    }
}

/// The Unix socket that `text` opens for commands that change something.
pub fn admin_socket(text: &str) -> Option<&Path> {
    text.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (path, options) = words.strip_prefix(&["stats", "socket"])?.split_first()?;
        let path = path.strip_prefix("unix@").unwrap_or(path);
        let admin = options.windows(2).any(|pair| pair == ["level", "admin"]);
        (admin && path.starts_with('/')).then(|| Path::new(path))
    })
}

/// The commands that make an HAProxy that runs `old` do what `new` says; `None` if that takes a reload.
pub fn commands(old: &str, new: &str) -> Option<Vec<String>> {
    let (old, new) = (lines(old), lines(new));
    if old.len() != new.len() {
        return None;
    }
    let (mut section, mut commands) = ("", Vec::new());
    for (old, new) in old.into_iter().zip(new) {
        if old == new {
            let mut words = new.split_whitespace();
            if let (Some("backend" | "listen"), Some(name)) = (words.next(), words.next()) {
                section = name;
            }
            continue;
        }
        let (old, new) = (Server::parse(old)?, Server::parse(new)?);
        commands.extend(old.to(&new, section)?);
    }
    (commands.len() <= MAX_COMMANDS).then_some(commands)
}

/// Without what HAProxy does not read.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// One `server` line.
#[derive(Debug, PartialEq, Eq)]
struct Server<'a> {
    name: &'a str,
    address: IpAddr,
    port: u16,
    weight: Option<u16>,
    disabled: bool,
    /// All other words; they cannot be changed at run time.
    rest: Vec<&'a str>,
}

impl<'a> Server<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (Some("server"), name, address) = (words.next(), words.next()?, words.next()?) else { return None };
        let (address, port) = address.rsplit_once(':')?;
        let address = match address.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into(),
            None => address.parse().ok()?,
        };
        let mut server =
            Self { name, address, port: port.parse().ok()?, weight: None, disabled: false, rest: Vec::new() };
        while let Some(word) = words.next() {
            match word {
                "weight" => server.weight = Some(words.next()?.parse().ok()?),
                "disabled" => server.disabled = true,
                _ => server.rest.push(word),
            }
        }
        Some(server)
    }

    /// What makes this one of `section` the `new` one.
    fn to(&self, new: &Self, section: &str) -> Option<Vec<String>> {
        // A weight that is not written is some default; a check on a port of its own stays with that.
        let same = (self.name, &self.rest, self.weight.is_some()) == (new.name, &new.rest, new.weight.is_some());
        if !same || section.is_empty() {
            return None;
        }
        let set = |what: String| format!("set server {section}/{} {what}", self.name);
        let mut commands = Vec::new();
        // Nobody is sent to an address that is only half right.
        if new.disabled && !self.disabled {
            commands.push(set("state maint".into()));
        }
        if (self.address, self.port) != (new.address, new.port) {
            commands.push(set(format!("addr {} port {}", new.address, new.port)));
        }
        if let Some(weight) = new.weight.filter(|_| self.weight != new.weight) {
            commands.push(set(format!("weight {weight}")));
        }
        if self.disabled && !new.disabled {
            commands.push(set("state ready".into()));
        }
        Some(commands)
    }
}

/// Sends `commands`, one after the other.
///
/// # Errors
/// The first that was not carried out, and what HAProxy says; those before it were.
pub async fn apply(socket: &Socket, commands: &[String]) -> Result<(), String> {
    for command in commands {
        let said = timeout(ANSWER_WITHIN, ask(socket, command)).await;
        let said = said.map_err(|_| format!("{command}: no answer within {ANSWER_WITHIN:?}"))?;
        let said = said.map_err(|e| format!("{command}: {e}"))?;
        // There are no codes: a change is silent, or told as one.
        if !said.trim().is_empty() && !["changed", "no need to change"].iter().any(|good| said.contains(good)) {
            return Err(format!("{command}: {}", said.trim()));
        }
    }
    Ok(())
}

async fn ask(socket: &Socket, command: &str) -> std::io::Result<String> {
    match socket {
        Socket::Path(path) => talk(UnixStream::connect(path).await?, command).await,
        Socket::Address(address) => talk(TcpStream::connect(address).await?, command).await,
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// How many servers `commands` are about.
pub fn servers(commands: &[String]) -> usize {
    commands.iter().filter_map(|command| command.split(' ').nth(2)).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = "global\n  stats socket /run/h.sock mode 600 level admin\nbackend web\n";

    /// What leads from one list of servers to another: `;` between commands, "reload" if there is no other way.
    fn check(old: &str, new: &str, expected: &str) {
        let found = commands(&format!("{TOP}{old}"), &format!("{TOP}{new}"));
        let told = found.map_or("reload".into(), |commands| commands.join("; ").replace("set server web/", ""));
        assert_eq!(told, expected, "{old} -> {new}");
    }

    #[test]
    fn changes_of_servers_need_no_reload() {
        let server = "  server s1 10.0.0.1:80 weight 1 check";
        check(server, "  server s1 10.0.0.2:81 weight 1 check", "s1 addr 10.0.0.2 port 81");
        check(server, "  server s1 10.0.0.1:80 weight 0 check", "s1 weight 0");
        check(server, "  server s1 10.0.0.1:80 check weight 5 # x", "reload");
        check(server, "  server s1 10.0.0.1:80 check weight 5", "s1 weight 5");
        check(server, "  server s1 [fe80::1]:80 weight 1 check", "s1 addr fe80::1 port 80");
        check(server, "# 2\n\n  server s1 10.0.0.1:80 weight 1 check", "");
        let slot = "  server s1 127.0.0.1:1 weight 1 check disabled";
        check(slot, server, "s1 addr 10.0.0.1 port 80; s1 state ready");
        check(server, slot, "s1 state maint; s1 addr 127.0.0.1 port 1");
        let moved = "backend api\n  server s2 10.0.0.3:80";
        check(
            &format!("{server}\n{moved}"),
            &format!("{server}\n{moved}0"),
            "set server api/s2 addr 10.0.0.3 port 800",
        );
    }

    #[test]
    fn changes_of_structure_need_one() {
        let server = "  server s1 10.0.0.1:80 weight 1 check";
        for new in [
            "  server s2 10.0.0.1:80 weight 1 check",
            "  server s1 10.0.0.1:80 weight 1 check inter 1s",
            "  server s1 10.0.0.1:80 check",
            "  server s1 web.example:80 weight 1 check",
            "  server s1 10.0.0.1 weight 1 check",
            "  server s1 10.0.0.1:80 weight 1 check\n  server s2 10.0.0.2:80",
            "",
            "  balance leastconn",
        ] {
            check(server, new, "reload");
        }
        let outside = "defaults\n  server s1 10.0.0.1:80";
        assert_eq!(commands(outside, &format!("{outside}0")), None);
    }

    #[test]
    fn the_socket_is_found_if_it_may_change_something() {
        assert_eq!(admin_socket(TOP), Some(Path::new("/run/h.sock")));
        for line in ["stats socket /run/h.sock", "stats socket ipv4@*:99 level admin", "stats socket", "stats enable"] {
            assert_eq!(admin_socket(line), None, "{line}");
        }
        assert_eq!("/x".parse(), Ok(Socket::Path("/x".into())));
        assert_eq!("lb:9999".parse(), Ok(Socket::Address("lb:9999".into())));
        assert!("lb".parse::<Socket>().is_err_and(|e| e.contains("HOST:PORT")));
    }
}
