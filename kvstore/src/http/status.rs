//! `/v1/status`.

use std::net::{IpAddr, SocketAddr};

use kvstore_core::names::ServiceKey;

use super::{Answer, App, Call, json};

fn own(app: &App) -> String {
    SocketAddr::new(app.about.advertise, app.about.server_port).to_string()
}

/// Those who take writes: this one, or whom a replica knows by its rows.
fn servers(app: &App) -> Vec<String> {
    if app.hub.is_none() {
        return vec![own(app)];
    }
    let registry = ServiceKey::new("consul").expect("a constant name");
    let place = |address: &str, port: u16| match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{address}:{port}"),
    };
    let state = app.registry.whole();
    state.instances_of(&registry).map(|server| place(server.address(), server.instance.port)).collect()
}

/// Never empty: there is no quorum to lose, and clients take an empty leader for a dead registry.
pub(super) fn leader(app: &App, _: &Call) -> Answer {
    Ok(json(&servers(app).into_iter().next().unwrap_or_else(|| own(app))))
}

pub(super) fn peers(app: &App, _: &Call) -> Answer {
    Ok(json(&servers(app)))
}
