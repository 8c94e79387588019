//! The connector against real servers.

use std::time::Duration;

use nats_connector::{Connector, Error, Result, Settings};

mod auth;
mod health;
mod lame_duck;
mod permissions;
mod reconnect;
mod requests;
mod tls;

/// For conditions that must come true on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let builder = pairs.iter().fold(Settings::builder(), |builder, (key, value)| {
        builder.set(format!("NATS.{key}"), value)
    });
    builder.build().expect("valid settings")
}

async fn try_connect(pairs: &[(&str, &str)]) -> Result<Connector> {
    Connector::connect(&settings(pairs)).await
}

async fn connect(pairs: &[(&str, &str)]) -> Connector {
    try_connect(pairs).await.expect("a connection")
}

async fn refused(pairs: &[(&str, &str)]) -> Error {
    try_connect(pairs).await.expect_err("no connection")
}
