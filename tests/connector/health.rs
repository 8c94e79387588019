//! What the server can do, and how the connection is doing.

use std::time::Duration;

use nats_connector::ErrorKind;
use nats_connector::connector::{Feature, State};
use nats_connector::pubsub::Message;
use nats_connector::{Connector, Settings};
use testkit::{Permissions, Proxy, Server, Version, eventually, require};

use crate::{LONG, connect};

#[tokio::test]
async fn capabilities_of_every_server_version() {
    for (version, number, level, features) in [
        (Version::V2_15, (2, 15), 5, [true, true]),
        (Version::V2_12, (2, 12), 2, [true, true]),
        (Version::V2_11, (2, 11), 1, [true, true]),
        (Version::V2_10, (2, 10), 0, [true, false]),
        (Version::Debian29, (2, 9), 0, [false, false]),
    ] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().max_payload(12_345);
        let server = server.start().await;
        let connector = connect(&[("SERVER", &server.url())]).await;
        let can = connector.capabilities().await.unwrap();
        let (major, minor, _) = can.version();
        assert_eq!((major, minor), number, "{can:?}");
        // Patch releases can raise the level.
        assert!(can.api_level() >= level && (level > 0 || can.api_level() == 0), "{can:?}");
        assert!(can.server_version().starts_with(&format!("{major}.{minor}.")), "{can:?}");
        assert!(can.jetstream() && can.max_payload() == 12_345, "{can:?}");
        let [compression, ttl] = features;
        assert_eq!(can.supports(Feature::StreamCompression), compression, "{can:?}");
        assert_eq!(can.supports(Feature::StreamMetadata), compression, "{can:?}");
        assert_eq!(can.supports(Feature::PerKeyTtl), ttl, "{can:?}");
        match can.require(Feature::PerKeyTtl) {
            Ok(()) => assert!(ttl),
            Err(error) => {
                assert_eq!((error.kind(), ttl), (ErrorKind::Unsupported, false));
                let release = can.server_version();
                let expected =
                    format!("per-key TTL needs nats-server 2.11 or newer; connected to {release}");
                assert_eq!(error.to_string(), expected);
            }
        }
        assert_eq!(connector.health().await.jetstream, Some(true));
    }
}

#[tokio::test]
async fn jetstream_is_off_where_it_is_not_configured_or_not_permitted() {
    let server = Server::builder().start().await;
    let connector = connect(&[("SERVER", &server.url())]).await;
    assert!(!connector.capabilities().await.unwrap().jetstream());
    assert_eq!(connector.health().await.jetstream, Some(false));

    let may = Permissions::default().deny_publish(&["$JS.>"]);
    let server = Server::builder().jetstream().user_with("ann", "pw", &may).start().await;
    let url = server.url();
    let connector = connect(&[("SERVER", &url), ("USERNAME", "ann"), ("PASSWORD", "pw")]).await;
    assert!(!connector.capabilities().await.unwrap().jetstream());

    let memory = Connector::memory();
    let can = memory.capabilities().await.unwrap();
    assert!(can.supports(Feature::PerKeyTtl) && can.server_version() == "memory", "{can:?}");
    assert!(memory.health().await.is_ready());
    assert_eq!(memory.client().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(memory.jetstream().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn the_jetstream_domain_is_asked() {
    let server = Server::builder().jetstream_domain("edge").start().await;
    let url = server.url();
    for (setting, value, there) in [
        ("JETSTREAM_DOMAIN", "edge", true),
        ("JETSTREAM_PREFIX", "$JS.edge.API", true),
        ("JETSTREAM_DOMAIN", "elsewhere", false),
    ] {
        let connector = connect(&[("SERVER", &url), (setting, value)]).await;
        assert_eq!(connector.capabilities().await.unwrap().jetstream(), there, "{value}");
        let raw = connector.jetstream().unwrap();
        assert_eq!(raw.query_account().await.is_ok(), there, "{value}");
    }
}

#[tokio::test]
async fn capabilities_are_read_again_at_another_server() {
    if !require(Version::V2_10) {
        return;
    }
    let old = Server::builder().version(Version::V2_10).jetstream().start().await;
    let new = Server::builder().max_payload(2_000_000).start().await;
    let proxy = Proxy::start(old.address());
    let connector =
        connect(&[("SERVER", &proxy.url()), ("RECONNECT_WAIT", "50ms"), ("MAX_RECONNECT", "-1")])
            .await;
    let before = connector.capabilities().await.unwrap();
    assert_eq!((before.version().1, before.jetstream()), (10, true));
    // Asked once per connection.
    assert!(std::sync::Arc::ptr_eq(&before, &connector.capabilities().await.unwrap()));
    proxy.set_target(new.address());
    proxy.cut();
    eventually(LONG, || async {
        let after = connector.capabilities().await;
        after.is_ok_and(|can| (can.version().1, can.jetstream()) == (15, false))
    })
    .await;
    assert_eq!(connector.capabilities().await.unwrap().max_payload(), 2_000_000);
}

#[tokio::test]
async fn health_in_every_state() {
    let mut server = Server::builder().jetstream().start().await;
    let url = server.url();
    let base = [
        ("SERVER", url.as_str()),
        ("RECONNECT_WAIT", "50ms"),
        ("MAX_RECONNECT", "-1"),
        ("DRAIN_TIMEOUT", "60s"),
    ];
    let connector = connect(&base).await;
    let health = connector.health().await;
    assert!(health.is_ready() && health.is_live(), "{health:?}");
    assert_eq!(health.server.as_deref(), Some(url.as_str()));
    assert!(health.round_trip.unwrap() > Duration::ZERO);
    assert_eq!((health.reconnects, health.dropped_messages), (0, 0));
    assert_eq!((health.last_error, health.jetstream), (None, Some(true)));

    server.kill().await;
    let connecting = connect(&[&base[..], &[("RETRY_ON_INITIAL_CONNECT", "true")]].concat()).await;
    eventually(LONG, || async { connector.state() == State::Disconnected }).await;
    for (connector, state) in [(&connecting, State::Connecting), (&connector, State::Disconnected)]
    {
        // Every failed attempt is told with its server and reason.
        eventually(LONG, || async {
            let last = connector.health().await.last_error.unwrap_or_default();
            last.contains(&url) && last.contains("refused")
        })
        .await;
        let health = connector.health().await;
        assert_eq!(health.state, state);
        assert!(!health.is_ready() && health.is_live(), "{health:?}");
        assert_eq!((health.round_trip, health.jetstream), (None, None));
    }

    server.restart().await;
    eventually(LONG, || async { connector.health().await.is_ready() }).await;
    assert_eq!(connector.health().await.reconnects, 1);

    // A handler that has not finished keeps the drain waiting.
    let (finish, wait) = tokio::sync::watch::channel(false);
    let slow = move |_: Message| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|finished| *finished).await.unwrap();
        }
    };
    connector.pubsub().subscribe("slow", slow).await.unwrap();
    connector.pubsub().publish("slow", "x").await.unwrap();
    connector.pubsub().flush().await.unwrap();
    let draining = tokio::spawn({
        let connector = connector.clone();
        async move { connector.drain().await }
    });
    eventually(LONG, || async { connector.state() == State::Draining }).await;
    let health = connector.health().await;
    assert!(!health.is_ready() && health.is_live(), "{health:?}");
    finish.send(true).unwrap();
    assert!(draining.await.unwrap().is_clean());
    let health = connector.health().await;
    assert_eq!(health.state, State::Closed);
    assert!(!health.is_ready() && !health.is_live(), "{health:?}");
    assert_eq!(connector.capabilities().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn dropped_messages_are_counted() {
    let server = Server::builder().start().await;
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.SUBSCRIPTION_CAPACITY", 10)
        .build()
        .unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let slow = |_: Message| std::future::pending::<()>();
    connector.pubsub().subscribe("flood", slow).await.unwrap();
    for _ in 0..1_000 {
        connector.pubsub().publish("flood", "x").await.unwrap();
    }
    eventually(LONG, || async { connector.health().await.dropped_messages > 0 }).await;
}
