//! Real `dig`: what anybody sees who asks the registry's DNS.

use std::{net::SocketAddr, time::Duration};

use crate::{bed::Host, program::Launch};

/// dig gives up before.
const LIMIT: Duration = Duration::from_secs(10);

/// What a question was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`...
    pub status: String,
    /// The data of the records in the answer section, sorted: `127.0.0.1`, `1 1 8080 web.node.dc1.consul.`...
    pub records: Vec<String>,
}

/// Asks the server at `127.0.0.1:port` for `name`; `options` are dig's own, such as `+tcp`.
///
/// # Errors
/// If there was no answer.
pub async fn dig(port: u16, name: &str, kind: &str, options: &[&str]) -> Result<Answer, String> {
    dig_at(([127, 0, 0, 1], port).into(), name, kind, options).await
}

/// Asks the server at this address.
///
/// # Errors
/// If there was no answer.
pub async fn dig_at(server: SocketAddr, name: &str, kind: &str, options: &[&str]) -> Result<Answer, String> {
    let ran = question(server, name, kind).args(options).run(LIMIT).await;
    parse(&ran.ok()?)
}

/// Asks from a host of a bed.
///
/// # Errors
/// If there was no answer.
pub async fn dig_from(host: &Host, server: SocketAddr, name: &str, kind: &str) -> Result<Answer, String> {
    let ran = host.launch(question(server, name, kind)).run(LIMIT).await;
    parse(&ran.ok()?)
}

fn question(server: SocketAddr, name: &str, kind: &str) -> Launch {
    let (server, port) = (format!("@{}", server.ip()), server.port().to_string());
    let usual = [&*server, "-p", &port, "+time=2", "+tries=1", "+noall", "+comments", "+answer", name, kind];
    Launch::new("dig").args(usual)
}

fn parse(text: &str) -> Result<Answer, String> {
    let (_, rest) = text.split_once("status: ").ok_or_else(|| format!("no answer: {text}"))?;
    let status = rest.split(',').next().unwrap_or_default().to_owned();
    let answers = text.lines().filter(|l| !l.starts_with(';') && !l.is_empty());
    // NAME TTL CLASS TYPE DATA...
    let data = answers.map(|l| l.split_whitespace().skip(4).collect::<Vec<_>>().join(" "));
    let mut records: Vec<_> = data.collect();
    records.sort();
    Ok(Answer { status, records })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dig_prints() {
        let text = "\n;; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 7\n;; flags: qr aa\n\n\
                    ;; ANSWER SECTION:\nweb.service.consul.\t0\tIN\tA\t10.0.0.2\nweb.service.consul. 0 IN A 10.0.0.1\n";
        let records = vec!["10.0.0.1".into(), "10.0.0.2".into()];
        assert_eq!(parse(text), Ok(Answer { status: "NOERROR".into(), records }));
        assert_eq!(parse(";; status: NXDOMAIN, id: 1\n").unwrap().status, "NXDOMAIN");
        assert!(parse(";; communications error to 127.0.0.1#8600: timed out\n").is_err());
    }
}
