//! Key-value on real nats-servers: what is stored, buckets, other clients, faults, permissions.

mod access;
mod batch;
mod buckets;
mod conditions;
mod faults;
mod interop;
mod list;
mod stored;
mod transactions;
mod ttl;
mod watch;

use nats_connector::{Connector, Settings};
use serde_json::Value;
use testkit::{Cluster, Server};

async fn connect(server: &Server) -> Connector {
    connect_with(server, &[]).await
}

async fn connect_with(server: &Server, settings: &[(&str, &str)]) -> Connector {
    let mut builder = Settings::builder().set("NATS.SERVER", server.url());
    for (key, value) in settings {
        builder = builder.set(*key, *value);
    }
    Connector::connect(&builder.build().unwrap()).await.unwrap()
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
    api(connector, &format!("STREAM.INFO.KV_{bucket}"), Value::Null).await
}

async fn delete_stream(connector: &Connector, bucket: &str) {
    let answer = api(connector, &format!("STREAM.DELETE.KV_{bucket}"), Value::Null).await;
    assert_eq!(answer["success"], true, "{answer}");
}

/// The node that leads a bucket, as soon as there is one.
async fn leader(connector: &Connector, bucket: &str) -> String {
    let context = connector.jetstream().unwrap();
    loop {
        let info = context.get_stream(format!("KV_{bucket}")).await;
        let leader = info.ok().and_then(|stream| stream.cached_info().cluster.clone()?.leader);
        match leader {
            Some(leader) => break leader,
            None => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// Kills the node that leads a bucket and waits until the cluster is whole again.
async fn kill_leader(cluster: &mut Cluster, connector: &Connector, bucket: &str) {
    let leader = leader(connector, bucket).await;
    let leader = cluster.node_named(&leader);
    leader.kill().await;
    leader.restart().await;
    cluster.ready().await;
}
