//! An axum server that stops together with the connector.
//!
//! On Ctrl-C or SIGTERM the server takes no new connections and finishes the requests at work; only
//! then does the connector drain, so what those requests publish and store still goes out.
//!
//! ```text
//! PORT=3000 cargo run --example graceful_axum
//! curl http://127.0.0.1:3000/visit/ada
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::future::IntoFuture;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use nats_connector::{BoxError, kv, pubsub, shutdown};

/// How long a visit takes: time enough to press Ctrl-C in the middle of one.
const VISIT: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    nats_connector::register().await?;

    let end = shutdown::wait();
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned()).parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = Router::new().route("/visit/{name}", get(visit)).route("/ready", get(ready));
    let server = axum::serve(listener, app).with_graceful_shutdown(shutdown::requested());
    let server = tokio::spawn(server.into_future());

    // Hooks run before the drain, so the drain waits for the last request.
    shutdown::on_shutdown("http server", || async { server.await? })?;

    let report = end.await;
    println!("shut down: {report}");
    std::process::exit(report.exit_code());
}

async fn visit(Path(name): Path<String>) -> Result<String, (StatusCode, String)> {
    count(&name).await.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
}

async fn count(name: &str) -> nats_connector::Result<String> {
    pubsub::publish("visits.begun", name).await?;
    tokio::time::sleep(VISIT).await;
    let key = format!("visits:{name}");
    let visits: u32 = kv::get(&key).await?.unwrap_or(0) + 1;
    kv::set(&key, &visits).await?;
    pubsub::publish("visits.done", name).await?;
    Ok(format!("visit {visits} of {name}\n"))
}

/// For a load balancer: not ready any more once a shutdown is requested, or without a connection.
async fn ready() -> StatusCode {
    let connected = match nats_connector::connector::global() {
        Some(connector) => connector.health().await.is_ready(),
        None => false,
    };
    let ready = connected && !shutdown::is_requested();
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
