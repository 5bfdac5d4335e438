//! Docker's API 1.41 on a unix socket, as far as the registrar asks, and the overlay of networks, with answers as Docker
//! 20.10 gives them: for faults that a real Docker does not have when a test wants them, and for more containers than a
//! test has time to start.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::Router;
use serde_json::{Value, json};
use tokio::{
    net::UnixListener,
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use answers::answer;

/// A Docker that does what it is told.
pub struct FakeDocker {
    socket: PathBuf,
    state: Arc<Mutex<Docker>>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Docker {
    containers: BTreeMap<String, Value>,
    networks: BTreeMap<String, Value>,
    /// Networks that it does not remove.
    stuck: BTreeSet<String>,
    listeners: Vec<mpsc::UnboundedSender<String>>,
    history: Vec<(i64, String)>,
    /// Events happen, but nobody is told, then or later.
    deaf: bool,
    /// What it answers about some ids instead of what is true.
    mad: BTreeMap<String, String>,
    /// It is podman.
    podman: bool,
    /// How far its clock is ahead of ours, in nanoseconds.
    clock: i64,
    inspected: usize,
    listed: usize,
}

impl FakeDocker {
    /// Starts one without containers, at `docker.sock` in `dir`.
    ///
    /// # Panics
    /// If it cannot listen there.
    pub fn start(dir: &Path) -> Self {
        let mut docker = Self { socket: dir.join("docker.sock"), state: Arc::default(), runtime: None };
        docker.start_again();
        docker
    }

    fn docker(&self) -> MutexGuard<'_, Docker> {
        lock(&self.state)
    }

    /// Where it listens, as `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The daemon ends; its containers stay what they are.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_file(&self.socket);
        let mut state = self.docker();
        state.listeners.clear();
        state.history.clear();
    }

    /// The daemon that ended comes back.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start_again(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread can be made");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&self.socket).expect("the directory is ours")
        };
        let app = Router::new().fallback(answer).with_state(self.state.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.runtime = Some(runtime);
    }

    /// Ends every stream of events.
    pub fn break_streams(&self) {
        self.docker().listeners.clear();
    }

    /// While it is deaf events happen and nobody is told, then or later.
    pub fn set_deaf(&self, deaf: bool) {
        self.docker().deaf = deaf;
    }

    /// How often it was asked about one container.
    pub fn inspected(&self) -> usize {
        self.docker().inspected
    }

    /// From now on it has podman's ways: another ID in each answer, no signal with a `kill`, `remove` for `destroy`,
    /// and `die` only for those who ask for `died`.
    pub fn become_podman(&self) {
        self.docker().podman = true;
    }

    /// Its clock is set to an hour ago.
    pub fn set_clock_back(&self) {
        self.docker().clock -= 3_600_000_000_000;
    }

    /// How often it has listed its containers.
    pub fn listed(&self) -> usize {
        self.docker().listed
    }

    /// From now on it answers this about `name`.
    pub fn go_mad_about(&self, name: &str, answer: &str) {
        self.docker().mad.insert(id(name), answer.to_owned());
    }

    /// `docker network create`: a bridge with these labels.
    pub fn make_network(&self, name: &str, labels: &Value) {
        let network = json!({"Id": id(name), "Name": name, "Driver": "bridge", "Scope": "local", "Labels": labels,
            "IPAM": {"Driver": "default", "Config": []}, "Options": {}});
        self.docker().networks.insert(id(name), network);
    }

    /// From now on it does not remove this network.
    pub fn hold_network(&self, name: &str) {
        self.docker().stuck.insert(id(name));
    }

    /// What its networks are called.
    pub fn network_names(&self) -> BTreeSet<String> {
        let name = |network: &Value| network["Name"].as_str().unwrap_or_default().to_owned();
        self.docker().networks.values().map(name).collect()
    }

    /// Sends this to all who follow its events.
    pub fn send_to_followers(&self, text: &str) {
        self.docker().listeners.retain(|listener| listener.send(text.to_owned()).is_ok());
    }

    /// Whether somebody follows its events.
    pub fn is_listened_to(&self) -> bool {
        let state = self.docker();
        state.listeners.iter().any(|listener| !listener.is_closed())
    }

    /// `docker run`: port 80 of the container is published on `port`.
    pub fn run(&self, name: &str, port: u16, patch: &Value) {
        let mut state = self.docker();
        state.containers.insert(id(name), container(name, port, patch));
        state.say("network", "connect", "bridge", &json!({"container": id(name), "name": "bridge"}));
        state.say("container", "start", &id(name), &json!({"name": name}));
    }

    /// Changes what `inspect` says, without an event.
    ///
    /// # Panics
    /// If there is no such container.
    pub fn patch(&self, name: &str, patch: &Value) {
        merge(self.docker().containers.get_mut(&id(name)).expect("there is such a container"), patch);
    }

    /// An event about a container.
    pub fn event(&self, name: &str, action: &str, attributes: &Value) {
        self.docker().say("container", action, &id(name), attributes);
    }

    /// `docker kill -s`, or the first half of `docker stop`.
    pub fn kill(&self, name: &str, signal: i32) {
        let podman = self.docker().podman;
        let signal = signal.to_string();
        let attributes = if podman { json!({"name": name}) } else { json!({"name": name, "signal": signal}) };
        self.event(name, "kill", &attributes);
    }

    /// The process ends well.
    pub fn die(&self, name: &str) {
        self.exit(name, 0);
    }

    /// The process ends, and with it what Docker tells of its networks.
    pub fn exit(&self, name: &str, code: i64) {
        let state = json!({"Running": false, "Status": "exited", "ExitCode": code, "FinishedAt": now_text()});
        self.patch(
            name,
            &json!({"State": state, "NetworkSettings": {"Ports": {"80/tcp": null},
            "Networks": {"bridge": {"IPAddress": ""}}}}),
        );
        self.event(name, "die", &json!({"exitCode": code.to_string()}));
        let mut state = self.docker();
        state.say("network", "disconnect", "bridge", &json!({"container": id(name), "name": "bridge"}));
    }

    /// A former container starts again, published on `port`.
    pub fn start_container(&self, name: &str, port: u16) {
        let state = json!({"Running": true, "Status": "running", "StartedAt": now_text(), "ExitCode": 0});
        let bound = json!([{"HostIp": "0.0.0.0", "HostPort": port.to_string()}]);
        self.patch(
            name,
            &json!({"State": state, "NetworkSettings": {"Ports": {"80/tcp": bound},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}}),
        );
        self.event(name, "start", &json!({"name": name}));
    }

    /// `docker rm -f`.
    pub fn remove(&self, name: &str) {
        self.kill(name, 9);
        self.die(name);
        self.docker().containers.remove(&id(name));
        let podman = self.docker().podman;
        self.event(name, if podman { "remove" } else { "destroy" }, &json!({"name": name}));
    }

    /// The HEALTHCHECK says so.
    pub fn health(&self, name: &str, status: &str) {
        self.patch(name, &json!({"State": {"Health": {"Status": status, "FailingStreak": 0, "Log": []}}}));
        self.event(name, &format!("health_status: {status}"), &json!({"name": name}));
    }
}

impl Drop for FakeDocker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(docker: &Mutex<Docker>) -> MutexGuard<'_, Docker> {
    docker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id of the container of this name.
pub fn id(name: &str) -> String {
    let hex: Vec<String> = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{:0<64}", hex.concat())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_nanos()).expect("it is before 2262")
}

fn now_text() -> String {
    jiff::Timestamp::from_nanosecond(now().into()).expect("it is now").to_string()
}

fn container(name: &str, port: u16, patch: &Value) -> Value {
    let mut container = json!({
        "Id": id(name), "Name": format!("/{name}"), "Created": now_text(), "Image": "sha256:0d1e", "RestartCount": 0,
        "Driver": "overlay2", "Platform": "linux", "Path": "/web", "Args": [],
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
            "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "", "StartedAt": now_text(),
            "FinishedAt": "0001-01-01T00:00:00Z"},
        "HostConfig": {"NetworkMode": "default"},
        "Config": {"Hostname": id(name)[..12].to_owned(), "Domainname": "", "Env": ["PATH=/bin"],
            "ExposedPorts": {"80/tcp": {}}, "Image": "acme/hello:1", "Labels": {}},
        "NetworkSettings": {"SandboxID": "a1", "SandboxKey": "/var/run/docker/netns/a1",
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": port.to_string()}]},
            "Networks": {"bridge": {"NetworkID": "b1", "EndpointID": "e1", "Gateway": "172.17.0.1",
                "IPAddress": "172.17.0.2", "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "",
                "MacAddress": "02:42:ac:11:00:02"}}}
    });
    merge(&mut container, patch);
    container
}

/// JSON merge patch, RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        let object = target.as_object_mut().expect("it was made one");
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

impl Docker {
    fn say(&mut self, kind: &str, action: &str, actor: &str, attributes: &Value) {
        if self.deaf {
            return;
        }
        let time = now() + self.clock;
        let event = json!({"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": attributes},
            "scope": "local", "time": time / 1_000_000_000, "timeNano": time});
        let line = format!("{event}\n");
        self.listeners.retain(|listener| listener.send(line.clone()).is_ok());
        self.history.push((time, line));
    }
}
