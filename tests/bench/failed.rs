//! Requests that fail behind HAProxy and nginx while their servers are replaced, and while versions are released, though
//! the proxies try nothing twice.

use flotilla_tests::servers::{Servers, Visits};

use crate::figures::Row;

const REPLACED: u32 = 50;
const RELEASES: [&str; 5] = ["v2", "v1", "v2", "v1", "v2"];

pub(crate) async fn replaced() -> Vec<Row> {
    let (mut servers, mut server) = Servers::begin().await;
    servers.open();
    for n in 0..REPLACED {
        server = servers.replace(server, &format!("v{}", n + 2)).await;
    }
    rows(
        servers.close(),
        [
            "failed, 50 servers replaced, HAProxy",
            "failed, 50 replaced, HAProxy, keep-alive",
            "failed, 50 servers replaced, nginx",
            "failed, 50 replaced, nginx, keep-alive",
        ],
    )
}

pub(crate) async fn released() -> Vec<Row> {
    let (mut servers, _old) = Servers::begin().await;
    servers.declare("v1").await;
    let _new = servers.add("v2").await;
    servers.open();
    for version in RELEASES {
        servers.release(version).await;
    }
    rows(
        servers.close(),
        [
            "failed, 5 releases, HAProxy",
            "failed, 5 releases, HAProxy, keep-alive",
            "failed, 5 releases, nginx",
            "failed, 5 releases, nginx, keep-alive",
        ],
    )
}

fn rows(visits: Vec<Visits>, names: [&'static str; 4]) -> Vec<Row> {
    let row = |(visits, what): (Visits, _)| {
        assert!(visits.requests > 0, "nobody asked:\n{}", visits.log);
        Row::none(what, visits.failed).note(format!("of {} requests", visits.requests))
    };
    visits.into_iter().zip(names).map(row).collect()
}
