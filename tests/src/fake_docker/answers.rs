//! What the played Docker answers.

use std::sync::{Arc, Mutex};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Docker, id, lock, now_text};

pub(super) async fn answer(State(docker): State<Arc<Mutex<Docker>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // `/v1.41` in front
    let path = path
        .strip_prefix(&[path.first().copied().filter(|p| p.starts_with("v1.")).unwrap_or_default()])
        .unwrap_or(&path);
    let mut docker = lock(&docker);
    match path {
        ["version"] => {
            let engine = if docker.podman { "Podman Engine" } else { "Engine" };
            let version = json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12",
                "Components": [{"Name": engine, "Version": "4.3.1"}]});
            json_body(StatusCode::OK, &version)
        }
        ["info"] => {
            let id = if docker.podman { now_text() } else { "FAKE:DOCK:ER".to_owned() };
            json_body(StatusCode::OK, &json!({"ID": id, "Name": "vm", "SystemTime": now_text()}))
        }
        ["containers", "json"] => {
            docker.listed += 1;
            let all = request.uri().query().is_some_and(|query| query.contains("all=true"));
            json_body(StatusCode::OK, &docker.containers_now(all))
        }
        ["containers", name, "json"] => {
            docker.inspected += 1;
            // by name as well
            let id = &if name.len() == 64 { (*name).to_owned() } else { id(name) };
            if let Some(nonsense) = docker.mad.get(id) {
                return json_text(StatusCode::OK, nonsense.clone());
            }
            match docker.containers.get(id) {
                Some(container) => json_body(StatusCode::OK, container),
                None => json_body(StatusCode::NOT_FOUND, &json!({"message": format!("No such container: {id}")})),
            }
        }
        ["networks"] => json_body(StatusCode::OK, &docker.networks.values().cloned().collect()),
        ["networks", id] => {
            let is_removal = request.method() == Method::DELETE;
            if let Some(nonsense) = docker.mad.get(*id).filter(|_| !is_removal) {
                return json_text(StatusCode::OK, nonsense.clone());
            }
            if is_removal && docker.stuck.contains(*id) {
                return json_body(StatusCode::FORBIDDEN, &json!({"message": "it has active endpoints"}));
            }
            let found = if is_removal { docker.networks.remove(*id) } else { docker.networks.get(*id).cloned() };
            match found {
                Some(_) if is_removal => StatusCode::NO_CONTENT.into_response(),
                Some(network) => json_body(StatusCode::OK, &network),
                None => json_body(StatusCode::NOT_FOUND, &json!({"message": format!("network {id} not found")})),
            }
        }
        ["events"] => {
            let query = request.uri().query().unwrap_or_default();
            let since = query.split('&').find_map(|pair| pair.strip_prefix("since=")).map_or(i64::MAX, nanoseconds);
            let events = docker.listen(since);
            let without_die = docker.podman && !query.contains("died");
            let lines = stream::unfold(events, move |mut events: mpsc::UnboundedReceiver<String>| async move {
                let mut line = events.recv().await?;
                while without_die && line.contains("\"Action\":\"die\"") {
                    line = events.recv().await?;
                }
                Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), events))
            });
            Response::new(Body::from_stream(lines))
        }
        _ => json_body(StatusCode::NOT_FOUND, &json!({"message": "page not found"})),
    }
}

impl Docker {
    fn containers_now(&self, all: bool) -> Value {
        let is_listed = |c: &&Value| all || c["State"]["Running"] == true;
        let list = self.containers.values().filter(is_listed).map(|c| {
            let health = c["State"]["Health"]["Status"].as_str();
            let status = health.map_or("Up 1 second".to_owned(), |health| format!("Up 1 second ({health})"));
            let state = match (c["State"]["Paused"] == true, c["State"]["Running"] == true) {
                (true, _) => "paused",
                (false, true) => "running",
                (false, false) => "exited",
            };
            json!({"Id": c["Id"], "Names": [c["Name"]], "Image": c["Config"]["Image"], "ImageID": c["Image"],
                "Command": "/web", "Created": 1, "Labels": {}, "State": state, "Status": status,
                "Ports": [{"PrivatePort": 80, "Type": "tcp"}], "HostConfig": {"NetworkMode": "default"},
                "NetworkSettings": {"Networks": c["NetworkSettings"]["Networks"]}, "Mounts": []})
        });
        list.collect()
    }

    fn listen(&mut self, since: i64) -> mpsc::UnboundedReceiver<String> {
        let (listener, events) = mpsc::unbounded_channel();
        for (_, line) in self.history.iter().filter(|(time, _)| *time >= since) {
            let _ = listener.send(line.clone());
        }
        self.listeners.push(listener);
        events
    }
}

fn nanoseconds(text: &str) -> i64 {
    let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<i64>().expect("a time is made of numbers");
    number(seconds) * 1_000_000_000 + number(nanos)
}

fn json_body(status: StatusCode, body: &Value) -> Response {
    json_text(status, body.to_string())
}

fn json_text(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], text).into_response()
}
