//! Load by `dnsperf`: 8 clients with up to 100 questions on their way, the next as soon as a reply is there.

use std::{path::Path, time::Duration};

use flotilla_tests::{dnsperf::Ran, program::Launch};

use crate::figures::Times;

const SECONDS: &str = "2";
const LIMIT: Duration = Duration::from_mins(1);

/// Asks the questions of a file, over and over, as fast as replies come.
pub(super) async fn run(port: u16, questions: &Path) -> Ran {
    let ran = launch(port, questions).args(["-l", SECONDS]).run(LIMIT).await;
    Ran::parse(&ran.ok().unwrap_or_else(|e| panic!("dnsperf: {e}")))
}

/// Asks so many a second; also the time that each reply took.
pub(super) async fn paced(port: u16, questions: &Path, a_second: f64) -> (Ran, Times) {
    let rate = format!("{a_second:.0}");
    // Into a file: to be read meanwhile would cost it its pace.
    let mut dnsperf = launch(port, questions).args(["-l", SECONDS, "-v", "-Q", &rate]).start();
    tokio::task::spawn_blocking(move || {
        let status = dnsperf.wait(LIMIT);
        assert!(status.success(), "dnsperf ended with {status}");
        let text = dnsperf.log();
        (Ran::parse(&text), times(&text))
    })
    .await
    .expect("it does not panic")
}

fn launch(port: u16, questions: &Path) -> Launch {
    let server = ["-s", "127.0.0.1", "-p", &port.to_string(), "-c", "8", "-d"];
    Launch::new("dnsperf").args(server).args([questions])
}

/// Of lines such as `> NOERROR web.service.consul A 0.000124`.
fn times(text: &str) -> Times {
    let seconds = text.lines().filter_map(|line| line.strip_prefix("> NOERROR ")?.rsplit(' ').next()?.parse().ok());
    seconds.map(Duration::from_secs_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dnsperf_prints() {
        let text = "[Status] Sending queries (to 127.0.0.1:53)\n\
                    > NOERROR a.service.consul A 0.000124\n\
                    > NOERROR b.service.consul A 0.002000\n\
                    Statistics:\n\n  \
                    Queries sent:         2\n  \
                    Queries completed:    2 (100.00%)\n  \
                    Queries lost:         0 (0.00%)\n\n  \
                    Response codes:       NOERROR 2 (100.00%)\n  \
                    Average packet size:  request 45, response 93\n  \
                    Run time (s):         1.0\n  \
                    Queries per second:   2.500000\n";
        let ran = Ran::parse(text);
        assert_eq!((ran.rate.to_string().as_str(), ran.replies, ran.lost), ("2.5", 2, 0));
        assert_eq!((times(text).at(0), times(text).at(99)), (Duration::from_micros(124), Duration::from_millis(2)));
    }
}
