//! Which requests failed, and which of those were in flight on something that was killed. Pure.

use std::{collections::BTreeSet, time::Instant};

/// One request of a visitor.
#[derive(Clone, Debug)]
pub struct Request {
    /// The host whose proxy was asked, counted from 0.
    pub host: usize,
    /// When it was sent.
    pub begun: Instant,
    /// When its answer was there, or it failed.
    pub ended: Instant,
    /// The address of the server whose good answer has begun, if one has.
    pub server: Option<String>,
    /// Why there was no whole good answer.
    pub failed: Option<String>,
}

/// Something was killed that may have been answering requests.
#[derive(Clone, Debug)]
pub struct Death {
    /// Of what.
    pub what: String,
    /// The addresses of the servers that it took along.
    pub servers: BTreeSet<String>,
    /// The host whose proxy lost them; none if both have.
    pub seen_by: Option<usize>,
    /// Before it none of them was dead.
    pub from: Instant,
    /// After it no one begins to answer: all are dead, or all can be reached again.
    pub until: Instant,
}

impl Death {
    /// Whether one of its servers was answering the request.
    fn met(&self, request: &Request) -> bool {
        let here = self.seen_by.is_none_or(|host| host == request.host);
        let server = request.server.as_ref().is_some_and(|server| self.servers.contains(server));
        here && server && request.begun <= self.until && request.ended >= self.from
    }
}

/// What is said of requests.
#[derive(Debug, Default)]
pub struct Judged {
    /// All of them.
    pub requests: usize,
    /// Those that were being answered by somebody who died meanwhile.
    pub in_flight: usize,
    /// Those of them that failed.
    pub lost: usize,
    /// Those that failed without that excuse.
    pub guilty: Vec<Request>,
}

/// Judges all requests by all that was killed meanwhile.
pub fn judge(requests: &[Request], deaths: &[Death]) -> Judged {
    let mut judged = Judged { requests: requests.len(), ..Judged::default() };
    for request in requests {
        let in_flight = deaths.iter().any(|death| death.met(request));
        judged.in_flight += usize::from(in_flight);
        match (&request.failed, in_flight) {
            (None, _) => {}
            (Some(_), true) => judged.lost += 1,
            (Some(_), false) => judged.guilty.push(request.clone()),
        }
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_who_was_in_flight_on_the_killed_one_may_fail() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let death = |seen_by| Death {
            what: "a container".into(),
            servers: ["10.0.0.1".to_owned()].into(),
            seen_by,
            from: at(100),
            until: at(110),
        };
        for (begun, ended, server, seen_by, excused) in [
            (90, 120, Some("10.0.0.1"), None, true),
            (105, 5000, Some("10.0.0.1"), None, true),
            // Somebody else's, before, after, and never answered at all.
            (90, 120, Some("10.0.0.2"), None, false),
            (80, 99, Some("10.0.0.1"), None, false),
            (111, 120, Some("10.0.0.1"), None, false),
            (90, 120, None, None, false),
            // The other host's proxy can reach it.
            (90, 120, Some("10.0.0.1"), Some(1), false),
            (90, 120, Some("10.0.0.1"), Some(0), true),
        ] {
            for failed in [true, false] {
                let request = Request {
                    host: 0,
                    begun: at(begun),
                    ended: at(ended),
                    server: server.map(str::to_owned),
                    failed: failed.then(|| "cut off".to_owned()),
                };
                let judged = judge(std::slice::from_ref(&request), &[death(seen_by)]);
                let found = (judged.in_flight, judged.lost, judged.guilty.len());
                let want = (usize::from(excused), usize::from(excused && failed), usize::from(!excused && failed));
                assert_eq!(found, want, "{request:?}");
            }
        }
    }
}
