//! Stores beside a registered connector, in a process of their own: loaded from a file, the
//! environment and arguments, on the connection that is there, drained with everything else.

use std::process::Command;

use nats_connector::connector::{self, State};
use nats_connector::{Stores, register, shutdown};
use testkit::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INSIDE: &str = "INSIDE_THE_TEST";
const NAME: &str = "stores_use_the_registered_connection_and_end_with_the_process";

#[tokio::test(flavor = "multi_thread")]
async fn stores_use_the_registered_connection_and_end_with_the_process() {
    let Ok(monitor) = std::env::var(INSIDE) else { return outside().await };

    // Before anything is registered, stores stand on a connection of their own.
    let early = Stores::load().unwrap();
    assert_eq!(early.names(), ["audit", "sessions", "user_cache"]);
    assert_eq!(early.warnings(), [""; 0]);
    early.get("sessions").unwrap().set("k", "early").await.unwrap();

    let registered = register().await.unwrap();
    let stores = Stores::load().unwrap();
    let users = stores.get("user_cache").unwrap();
    users.set("user:1", "Ada").await.unwrap();
    let status = users.bucket_status().await.unwrap().unwrap();
    let line = "history: Some(4)";
    assert!(format!("{status:?}").contains(line), "the environment wins: {status:?}");
    stores.get("audit").unwrap().set("k", "v").await.unwrap();
    assert_eq!(connections(&monitor).await, 3, "early's own, the registered one, and AUDIT's");

    // Closing the stores ends neither the registered connection nor what others hold of it.
    stores.close().await;
    assert!(users.get_raw("user:1").await.unwrap_err().is_closed());
    assert_eq!(registered.state(), State::Connected);
    let kv = registered.kv().bucket("user_cache");
    assert_eq!(kv.get::<String>("user:1").await.unwrap().as_deref(), Some("Ada"));

    // The shutdown drains the connections that stores made, too.
    let report = shutdown::run().await;
    assert_eq!(report.exit_code(), 0, "{report:?}");
    assert_eq!(connector::global().unwrap().state(), State::Closed);
    for stores in [early, Stores::load().unwrap()] {
        let error = stores.get("sessions").unwrap().get_raw("k").await.unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
    // In the folder that the outer one looks at.
    std::fs::write("done", "").unwrap();
}

/// How many connections the server has, as its monitor at this address says.
async fn connections(monitor: &str) -> u64 {
    let mut stream = TcpStream::connect(monitor).await.unwrap();
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let varz: serde_json::Value = serde_json::from_str(body).unwrap();
    varz["connections"].as_u64().unwrap()
}

/// Runs this test again in a process whose settings are its own.
async fn outside() {
    let server = Server::builder().jetstream().start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yml");
    let settings = "nats:\n  server: ${SERVER}\naudit:\n  server: ${SERVER}\n  name: audit\nstores:\n  \
                    user_cache: {history: 2}\n  sessions:\n  audit: {domain: AUDIT}\n";
    std::fs::write(&file, settings).unwrap();
    let mut inside = Command::new(std::env::current_exe().unwrap());
    inside.args(["--exact", NAME, "--nocapture"]).current_dir(folder.path());
    inside.env("NATS_SETTINGS_FILE", &file).env("SERVER", server.url());
    inside
        .env("STORES_USER_CACHE_HISTORY", "4")
        .env(INSIDE, server.monitor_url().trim_start_matches("http://"));
    let output = tokio::task::spawn_blocking(move || inside.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && folder.path().join("done").exists(), "{text}");
}
