//! What docs/edge-cases.md says of the places where guarantees end.

use std::time::Duration;

use futures::StreamExt;
use nats_connector::pubsub::Message;
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, ErrorKind, Settings};
use testkit::{Server, eventually};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(server: &Server) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.RECONNECT_WAIT", "50ms")
        .set("NATS.MAX_RECONNECT", -1)
        .build()
        .unwrap();
    Connector::connect(&settings).await.unwrap()
}

/// Publishes a message with a header that is not UTF-8, as a client that does not check could.
async fn publish_bad_header(server: &Server, subject: &str) {
    let headers = b"NATS/1.0\r\nName: \xff\xfe\r\n\r\n";
    let payload = b"1";
    let mut stream = BufReader::new(TcpStream::connect(server.address()).await.unwrap());
    let (header_size, size) = (headers.len(), headers.len() + payload.len());
    stream.write_all(b"CONNECT {\"headers\":true,\"verbose\":false}\r\n").await.unwrap();
    stream.write_all(format!("HPUB {subject} {header_size} {size}\r\n").as_bytes()).await.unwrap();
    stream.write_all(&[headers, &payload[..], b"\r\nPING\r\n"].concat()).await.unwrap();
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the server closed the connection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_not_utf8_costs_one_reconnect() {
    let server = Server::builder().start().await;
    let (reader, writer) = (connect(&server).await, connect(&server).await);
    let mut messages = reader.pubsub().messages("orders.*").await.unwrap();

    publish_bad_header(&server, "orders.bad").await;
    eventually(PATIENCE, || async {
        let health = reader.health().await;
        health.is_ready() && health.reconnects == 1
    })
    .await;

    writer.pubsub().publish("orders.good", &1).await.unwrap();
    let message = timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
    assert_eq!(message.topic(), "orders.good");
    assert_eq!(reader.health().await.reconnects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_header_that_is_not_utf8_fails_each_read_until_the_key_is_deleted() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let bucket = connector.kv().bucket("users");
    bucket.set("other", &1).await.unwrap();
    publish_bad_header(&server, "$KV.users.bad").await;

    let ready = || async { connector.health().await.is_ready() };
    for reads in 1..=2 {
        let error = bucket.get::<u32>("bad").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        eventually(PATIENCE, ready).await;
        assert_eq!(connector.health().await.reconnects, reads);
    }
    assert_eq!(bucket.get("other").await.unwrap(), Some(1));

    bucket.delete("bad").await.unwrap();
    assert_eq!(bucket.get::<u32>("bad").await.unwrap(), None);
    assert_eq!(connector.health().await.reconnects, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_keeps_its_connection() {
    let server = Server::builder().start().await;
    let other = connect(&server).await;
    let connector = connect(&server).await;
    let answer = |message: Message| async move { message.respond(&1).await };
    let subscription = connector.pubsub().subscribe("price.get", answer).await.unwrap();
    drop(connector);
    other.pubsub().request("price.get", &1).await.unwrap();

    subscription.unsubscribe().await.unwrap();
    drop(subscription);
    eventually(PATIENCE, || async { server.varz().await["connections"] == 1 }).await;
}

#[tokio::test]
async fn in_process_there_are_streams_and_no_client() {
    let connector = Connector::memory();
    let publish = || connector.pubsub().publish("orders.created", &1).jetstream();
    assert!(publish().await.unwrap_err().is_no_responders());
    connector.pubsub().stream(StreamConfig::new("ORDERS", ["orders.>"])).await.unwrap();
    assert_eq!(publish().await.unwrap().sequence, 1);
    assert_eq!(connector.client().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(connector.jetstream().err().unwrap().kind(), ErrorKind::Unsupported);
    assert!(connector.drain().await.is_clean());
}
