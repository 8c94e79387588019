//! Requests that time out leave no memory behind. A process of its own: its memory is measured.

#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use futures::future::join_all;
use nats_connector::{Connector, ErrorKind, Settings};
use testkit::{Server, size};

/// The memory of this process that is its own, in bytes.
fn own_memory() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kilobytes: i64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

async fn time_out(connector: &Connector, requests: usize) {
    let limit = Duration::from_millis(1);
    for _ in 0..requests / 500 {
        let calls = (0..500).map(|_| connector.pubsub().request("silent", "x").timeout(limit));
        for outcome in join_all(calls).await {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
        }
        // What is written is not memory that is left behind.
        connector.pubsub().flush().await.unwrap();
    }
}

#[tokio::test]
async fn requests_that_time_out_leave_less_than_a_mebibyte() {
    let server = Server::builder().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    // Of another connection, which is not measured: it is there, and answers nothing.
    let other = async_nats::connect(server.url()).await.unwrap();
    let silent = other.subscribe("silent").await.unwrap();
    other.flush().await.unwrap();
    let reading = tokio::spawn(futures::StreamExt::for_each(silent, |_| async {}));

    time_out(&connector, 20_000).await;
    let before = own_memory();
    time_out(&connector, size(30_000, 100_000)).await;
    let left = own_memory() - before;
    assert!(left < 1024 * 1024, "{left} bytes");
    reading.abort();
}
