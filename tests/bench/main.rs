//! `make bench`: how fast it is on this machine, each figure beside what it is compared with in the same run.
//!
//! ```text
//! bench [FIGURE]...
//! bench echo PORT BYTES      what `dns` starts to compare with
//! bench tunnel FILE          what `tunnel` starts at both ends
//! ```
//!
//! Without a figure, all of them, one after the other and each alone, below the name of the machine. Exits with 1 if a bound is missed, and with 2 if
//! there is no such figure or the machine lacks what it needs.

mod catalog;
mod change;
mod checks;
mod churn;
mod cpu;
mod dns;
mod failed;
mod figures;
mod floor;
mod growth;
mod herd;
mod lives;
mod memory;
mod mesh;
mod metrics;
mod peers;
mod reads;
mod reference;
mod reloads;
mod resync;
mod shared;
mod start;
mod stop;
mod templates;
mod tunnels;
mod wake;
mod wire;
mod writes;
mod wrk;

use std::{pin::Pin, process::ExitCode};

use figures::Row;
use flotilla_tests::{
    docker,
    needs::{Need, Verdict, verdict},
};
use tokio::runtime::Builder;

type Rows = Pin<Box<dyn Future<Output = Vec<Row>>>>;

/// Something that is measured by itself.
struct Figure {
    name: &'static str,
    what: &'static str,
    /// Programs beside those of this workspace.
    programs: &'static [&'static str],
    docker: bool,
    measure: fn() -> Rows,
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "start",
        what: "a container's start until it passes in the catalog",
        programs: &[],
        docker: true,
        measure: || Box::pin(start::to_passing()),
    },
    Figure {
        name: "stop",
        what: "the signal that stops a container until it passes no more",
        programs: &[],
        docker: true,
        measure: || Box::pin(stop::to_not_passing()),
    },
    Figure {
        name: "churn",
        what: "a hundred containers that come and go at once",
        programs: &[],
        docker: true,
        measure: || Box::pin(churn::missed_and_left()),
    },
    Figure {
        name: "resync",
        what: "500 unchanged containers, and the registrar's memory",
        programs: &[],
        docker: false,
        measure: || Box::pin(resync::of_what_is_unchanged()),
    },
    Figure {
        name: "file",
        what: "a change in the catalog until the new file is live",
        programs: &["haproxy", "nginx"],
        docker: false,
        measure: || Box::pin(change::to_file()),
    },
    Figure {
        name: "templates",
        what: "a file of 1,000 services, and one of 200 templates",
        programs: &[],
        docker: false,
        measure: || Box::pin(templates::touched()),
    },
    Figure {
        name: "reload",
        what: "a live file until its reload; a burst and a storm of changes",
        programs: &[],
        docker: false,
        measure: || {
            Box::pin(async {
                let mut rows = reloads::after_a_file().await;
                rows.extend(reloads::of_a_burst().await);
                rows.extend(reloads::of_a_storm().await);
                rows
            })
        },
    },
    Figure {
        name: "failed",
        what: "requests that fail while servers are replaced and versions released",
        programs: &["haproxy", "nginx"],
        docker: false,
        measure: || {
            Box::pin(async {
                let mut rows = failed::replaced().await;
                rows.extend(failed::released().await);
                rows
            })
        },
    },
    Figure {
        name: "kv",
        what: "reads of a key, and nginx",
        programs: &["nginx", "wrk"],
        docker: false,
        measure: || Box::pin(reads::key()),
    },
    Figure {
        name: "health",
        what: "the health of a service, and nginx",
        programs: &["nginx", "wrk"],
        docker: false,
        measure: || Box::pin(reads::health()),
    },
    Figure {
        name: "services",
        what: "the list of services, one made for each request, and nginx",
        programs: &["nginx", "wrk"],
        docker: false,
        measure: || Box::pin(reads::services()),
    },
    Figure {
        name: "put",
        what: "durable writes, etcd, and what the disk allows",
        programs: &["etcd", "nginx", "wrk"],
        docker: false,
        measure: || Box::pin(writes::keys()),
    },
    Figure {
        name: "wake",
        what: "a registration until a waiting query is answered",
        programs: &[],
        docker: false,
        measure: || Box::pin(wake::to_answer()),
    },
    Figure {
        name: "herd",
        what: "5,000 waiting queries, and bare writes",
        programs: &[],
        docker: false,
        measure: || Box::pin(herd::answered()),
    },
    Figure {
        name: "dns",
        what: "replies to DNS questions, dnsmasq, Knot DNS, and a bare echo",
        programs: &["dig", "dnsmasq", "dnsperf", "knotd"],
        docker: false,
        measure: || Box::pin(dns::answered()),
    },
    Figure {
        name: "tunnel",
        what: "the overlay's tunnel, and Debian's wireguard-go, nebula and tinc",
        programs: &["ip", "iperf3", "nebula", "nebula-cert", "ping", "ss", "tincd", "wg", "wireguard-go"],
        docker: false,
        measure: || Box::pin(tunnels::carried()),
    },
    Figure {
        name: "mesh",
        what: "a host that joins 49 others of the overlay (MESH_HOSTS=n: of n in all)",
        programs: &["ip", "nft", "ping"],
        docker: false,
        measure: || Box::pin(mesh::joined()),
    },
    Figure {
        name: "memory",
        what: "resident memory",
        programs: &[],
        docker: false,
        measure: || Box::pin(memory::resident()),
    },
    Figure {
        name: "etcd",
        what: "five kvstores on one etcd with 20,000 instances, and a bare watch",
        programs: &["etcd", "etcdctl", "wrk"],
        docker: false,
        measure: || Box::pin(shared::by_five()),
    },
    Figure {
        name: "growth",
        what: "1 to 10,000 services, 1 to 5,000 who wait, 1 to 5 kvstores on an etcd",
        programs: &["dnsperf", "etcd", "wrk"],
        docker: false,
        measure: || Box::pin(growth::measured()),
    },
    Figure {
        name: "checks",
        what: "2,000 HTTP checks",
        programs: &[],
        docker: false,
        measure: || Box::pin(checks::run()),
    },
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if let Some(error) = dns::echo::asked_for(&names) {
        eprintln!("bench: the echo ends: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(why) = tunnels::ours::asked_for(&names) {
        eprintln!("bench: no tunnel: {why}");
        return ExitCode::FAILURE;
    }
    let chosen = match chosen(&names) {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("bench: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be made");
    println!("{}", Row::told("machine", &machine()));
    let mut held = true;
    for figure in chosen {
        eprintln!("bench: {}...", figure.what);
        for row in runtime.block_on((figure.measure)()) {
            held &= row.holds();
            println!("{row}");
        }
    }
    docker::remove_shared();
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What all of it was measured on.
fn machine() -> String {
    let of = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (model, memory) = (of("/proc/cpuinfo", "model name"), of("/proc/meminfo", "MemTotal"));
    format!("{cores} cores ({model}), {memory} of memory, Linux {}", kernel.trim())
}

/// The figures of these names, or all; or what is wrong with the names or the machine.
fn chosen(names: &[String]) -> Result<Vec<&'static Figure>, String> {
    let known = FIGURES.iter().map(|figure| figure.name).collect::<Vec<_>>();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no figure {unknown:?}; there are {}", known.join(", ")));
    }
    let wanted = |figure: &&Figure| names.is_empty() || names.iter().any(|name| name == figure.name);
    let chosen: Vec<&Figure> = FIGURES.iter().filter(wanted).collect();
    let docker = chosen.iter().filter(|figure| figure.docker).flat_map(|_| Need::DOCKER);
    let programs = chosen.iter().flat_map(|figure| figure.programs).copied().map(Need::Program);
    match verdict(&docker.chain(programs).collect::<Vec<_>>(), false) {
        Verdict::Run => Ok(chosen),
        Verdict::Skip(missing) | Verdict::Refuse(missing) => {
            Err(format!("this machine lacks {missing}; tests/setup.sh installs programs"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_chosen_by_its_name() {
        let names = |names: &[&str]| chosen(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["wake", "memory"]).unwrap().iter().map(|f| f.name).collect::<Vec<_>>(), ["wake", "memory"]);
        assert!(names(&["speed"]).is_err_and(|why| why.contains("speed") && why.contains("herd")));
    }
}
