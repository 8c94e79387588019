//! Connections: made when first needed, shared, given, closed with the last.

use std::time::{Duration, Instant};

use nats_connector::connector::State;
use nats_connector::{Connector, ErrorKind, Settings, Stores};
use testkit::{Server, eventually};

use super::{lines, stores};

async fn connections(server: &Server) -> u64 {
    server.varz().await["connections"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_agree_share_one_connection() {
    let server = Server::builder().jetstream().start().await;
    let url = server.url();
    let stores = stores(&format!(
        "NATS.SERVER={url}\nAUDIT.SERVER={url}\nOTHER.SERVER={url}\nOTHER.NAME=other\n\
         STORES.A.TTL=1h\nSTORES.B.KEY_CODEC=raw\nSTORES.C.DOMAIN=AUDIT\nSTORES.D.DOMAIN=other"
    ));
    let handle = |name| stores.get(name).unwrap();
    // Loading sends nothing.
    assert_eq!(connections(&server).await, 0);
    let calls: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .flat_map(|name| (0..8).map(move |i| (name, i)))
        .map(|(name, i)| tokio::spawn(handle(name).set(format!("k:{i}"), &i)))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(connections(&server).await, 1);
    handle("d").set("k:1", "d").await.unwrap();
    assert_eq!(connections(&server).await, 2);
    // Each has a bucket of its own.
    assert_eq!(handle("a").get::<u32>("k:3").await.unwrap(), Some(3));
    assert_eq!(handle("d").get::<String>("k:1").await.unwrap().as_deref(), Some("d"));
    assert_eq!(handle("a").bucket("d").get::<String>("k:1").await.unwrap().as_deref(), Some("d"));

    // A handle keeps its connection; the last one ends it.
    let kept = handle("a");
    drop(stores);
    assert_eq!(kept.get::<u32>("k:3").await.unwrap(), Some(3));
    eventually(Duration::from_secs(60), || async { connections(&server).await == 1 }).await;
    drop(kept);
    eventually(Duration::from_secs(60), || async { connections(&server).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_own_connections_alone() {
    let server = Server::builder().jetstream().start().await;
    let text = format!("NATS.SERVER={0}\nAUDIT.SERVER={0}\nAUDIT.NAME=audit", server.url());
    let connector = Connector::connect(&lines(&text).build().unwrap()).await.unwrap();
    let stores = Stores::builder()
        .settings(lines(&format!("{text}\nSTORES.A.TTL=1h\nSTORES.B.DOMAIN=AUDIT")))
        .connector(connector.clone())
        .build()
        .unwrap();
    let (a, b) = (stores.get("a").unwrap(), stores.get("b").unwrap());
    a.set("k", "a").await.unwrap();
    assert_eq!(connections(&server).await, 1);
    b.set("k", "b").await.unwrap();
    assert_eq!(connections(&server).await, 2);

    stores.close().await;
    for kv in [&a, &b] {
        assert!(kv.get_raw("k").await.unwrap_err().is_closed());
    }
    eventually(Duration::from_secs(60), || async { connections(&server).await == 1 }).await;
    assert_eq!(connector.state(), State::Connected);
    let left = connector.kv().bucket("a").get::<String>("k").await.unwrap();
    assert_eq!(left.as_deref(), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_tried_again() {
    let mut server = Server::builder().jetstream().start().await;
    let stores = stores(&format!("NATS.SERVER={}\nSTORES.S.HISTORY=2", server.url()));
    let kv = stores.get("s").unwrap();
    server.kill().await;
    let error = kv.get_raw("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.context("store"), Some("s"));
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
    server.restart().await;
    kv.set("k", "v").await.unwrap();
    assert_eq!(kv.get::<String>("k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_server_that_stays_down_does_not_fill_the_log() {
    // A server that hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let (logs, _guard) = testkit::logs::Logs::scoped();
    let stores = stores(&format!("STORES.S.DRIVER=redis\nSTORES.S.ADDR={address}"));
    let kv = stores.get("s").unwrap();
    for _ in 0..5 {
        let error = kv.get_raw("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let text = logs.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot open a store"), "{warnings:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_is_closed_for_good_is_replaced() {
    let mut server = Server::builder().jetstream().start().await;
    let stores =
        stores(&format!("NATS.SERVER={}\nNATS.MAX_RECONNECT=0\nSTORES.S.TTL=1h", server.url()));
    let kv = stores.get("s").unwrap();
    kv.set("k", "v").await.unwrap();
    server.kill().await;
    eventually(Duration::from_secs(60), || async { kv.get_raw("k").await.is_err() }).await;
    server.restart().await;
    eventually(Duration::from_secs(60), || async { kv.get_raw("k").await.is_ok() }).await;
    assert_eq!(kv.get::<String>("k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_ends_with_the_call() {
    // A server that accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let stores =
        stores(&format!("NATS.SERVER={address}\nNATS.CONNECT_TIMEOUT=30s\nSTORES.S.TTL=1h"));
    let begun = Instant::now();
    let call = stores.get("s").unwrap().get_raw("k").timeout(Duration::from_millis(100));
    let error = call.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Closed while it is being opened.
    stores.close().await;
    assert!(stores.get("s").unwrap().get_raw("k").await.unwrap_err().is_closed());
}

#[tokio::test]
async fn memory_needs_no_server() {
    let stores = stores(
        "NATS.SERVER=memory:\nSTORES.A.TTL=1h\nSTORES.B.DRIVER=memory\n\
         STORES.C.DRIVER=memory\nSTORES.C.BUCKET=b\nSTORES.C.SERIALIZER=text",
    );
    for name in ["a", "b"] {
        let kv = stores.get(name).unwrap();
        kv.set("user:1", name).await.unwrap();
        assert_eq!(kv.get::<String>("user:1").await.unwrap().as_deref(), Some(name));
    }
    // The same bucket, read by another serializer.
    let text = stores.get("c").unwrap().get::<String>("user:1").await.unwrap();
    assert_eq!(text.as_deref(), Some("\"b\""));
    let settings = Settings::builder().set("NATS.SERVER", "memory:").build().unwrap();
    assert!(settings.is_memory());
}
