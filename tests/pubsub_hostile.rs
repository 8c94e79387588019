//! Messages that no well-behaved client sends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use nats_connector::pubsub::{Message, with};
use nats_connector::{Connector, Settings};
use testkit::{Server, eventually};

const LONG: Duration = Duration::from_secs(60);

/// Speaks to the server by hand, as no client would, and returns when the server has read it.
fn send_raw(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let connect = br#"CONNECT {"verbose":false,"headers":true,"lang":"raw"}"#;
    stream.write_all(&[connect, &b"\r\n"[..], bytes, b"PING\r\n"].concat()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.unwrap() == "PONG"), "the server does not answer");
}

#[tokio::test]
async fn text_that_is_not_utf8_costs_the_connection_and_no_subscription() {
    let server = Server::builder().start().await;
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.RECONNECT_WAIT", "50ms")
        .build()
        .unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let handled = Arc::new(AtomicU64::new(0));
    let count = |handled: Arc<AtomicU64>, _: Message| async move {
        handled.fetch_add(1, Ordering::Relaxed);
    };
    connector.pubsub().subscribe("news.>", with(handled.clone(), count)).await.unwrap();
    let mut stream = connector.pubsub().messages("news.>").await.unwrap();

    let header = [&b"NATS/1.0\r\nName: "[..], b"\xff\xfe", b"\r\n\r\n"].concat();
    let sizes = format!("{} {}", header.len(), header.len() + 4);
    let in_header =
        [b"HPUB news.bad ", sizes.as_bytes(), b"\r\n", &header[..], b"body\r\n"].concat();
    let in_subject = b"PUB news.\xff\xfe 4\r\nbody\r\n".to_vec();
    for (round, hostile) in [in_header, in_subject].into_iter().enumerate() {
        send_raw(&server, &hostile);
        eventually(LONG, || async {
            let health = connector.health().await;
            health.reconnects == round as u64 + 1 && health.is_ready()
        })
        .await;
        // Gone with the connection; what comes after it arrives.
        connector.pubsub().publish("news.good", "hello").await.unwrap();
        let message = tokio::time::timeout(LONG, stream.next()).await.unwrap().unwrap();
        assert_eq!(message.topic(), "news.good");
        let expected = round as u64 + 1;
        eventually(LONG, || async { handled.load(Ordering::Relaxed) == expected }).await;
    }
}

#[tokio::test]
async fn who_does_not_subscribe_to_it_does_not_notice() {
    let server = Server::builder().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let mut stream = connector.pubsub().messages("mine").await.unwrap();
    send_raw(&server, b"PUB other.\xff\xfe 4\r\nbody\r\n");
    connector.pubsub().publish("mine", "hello").await.unwrap();
    assert!(tokio::time::timeout(LONG, stream.next()).await.unwrap().is_some());
    assert_eq!(connector.health().await.reconnects, 0);
}
