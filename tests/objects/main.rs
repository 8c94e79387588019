//! Objects on real nats-servers: what is stored, other clients, faults, permissions, the end.

mod access;
mod buckets;
mod faults;
mod interop;
mod put;
mod read;
mod watch;

use nats_connector::objects::Objects;
use nats_connector::{Connector, Settings};
use serde_json::{Value, json};
use testkit::Server;

async fn connect(server: &Server) -> Connector {
    connect_to(&server.url(), &[]).await
}

async fn connect_to(url: &str, settings: &[(&str, &str)]) -> Connector {
    let mut builder = Settings::builder().set("NATS.SERVER", url);
    for (key, value) in settings {
        builder = builder.set(*key, *value);
    }
    Connector::connect(&builder.build().unwrap()).await.unwrap()
}

/// A server, a connector and its objects.
async fn objects() -> (Server, Connector, Objects) {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let objects = connector.objects().bucket("b");
    (server, connector, objects)
}

/// A request to the JetStream API as it is, for what tests look at behind the library's back.
async fn api(connector: &Connector, subject: &str, body: Value) -> Value {
    let client = connector.client().unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(format!("$JS.API.{subject}"), body.into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// A bucket's stream, as the server tells it.
async fn stream(connector: &Connector, bucket: &str) -> Value {
    api(connector, &format!("STREAM.INFO.OBJ_{bucket}"), json!({ "subjects_filter": ">" })).await
}

/// How many chunks a bucket holds, of objects or of nobody.
async fn chunks(connector: &Connector, bucket: &str) -> u64 {
    let info = stream(connector, bucket).await;
    let subjects = info["state"]["subjects"].as_object().cloned().unwrap_or_default();
    let chunks = subjects.iter().filter(|(subject, _)| subject.contains(".C."));
    chunks.map(|(_, count)| count.as_u64().unwrap()).sum()
}

/// So many bytes that are not alike.
fn bytes(count: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}
