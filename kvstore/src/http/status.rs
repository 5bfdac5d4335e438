//! `/v1/status`.

use std::net::SocketAddr;

use super::{Answer, App, Call, json};

fn own(app: &App) -> String {
    SocketAddr::new(app.about.advertise, app.about.server_port).to_string()
}

/// Never empty: there is no quorum to lose, and clients take an empty leader for a dead registry.
pub(super) fn leader(app: &App, _: &Call) -> Answer {
    Ok(json(&own(app)))
}

pub(super) fn peers(app: &App, _: &Call) -> Answer {
    Ok(json(&[own(app)]))
}
