//! Publishing that a stream acknowledges.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use nats_connector::pubsub::Outgoing;
use nats_connector::{Connector, ErrorKind};
use testkit::{Server, Version, require};

use crate::connect;

async fn orders(server: &Server) -> Connector {
    let connector = connect(server).await;
    let config = Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    connector.jetstream().unwrap().create_stream(config).await.unwrap();
    connector
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_acknowledges_what_it_stored_and_tells_duplicates() {
    let server = Server::builder().jetstream().start().await;
    let connector = orders(&server).await;
    let pubsub = connector.pubsub();

    let first = pubsub.publish("orders.new", &1).jetstream().await.unwrap();
    assert_eq!((first.stream.as_str(), first.sequence, first.duplicate), ("ORDERS", 1, false));
    let second = pubsub.publish("orders.new", &2).jetstream().message_id("two").await.unwrap();
    assert_eq!((second.sequence, second.duplicate), (2, false));
    let again = pubsub.publish("orders.new", &2).jetstream().message_id("two").await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (2, true));

    let prefixed = pubsub.with_prefix("orders.");
    let third = prefixed.publish("eu", &3).header("Trace", "1").jetstream().await.unwrap();
    let stream = connector.jetstream().unwrap().get_stream("ORDERS").await.unwrap();
    let stored = stream.get_raw_message(third.sequence).await.unwrap();
    assert_eq!(stored.subject.as_str(), "orders.eu");
    assert_eq!(stored.headers.get("Trace").unwrap().as_str(), "1");
    assert_eq!(stored.payload, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_fails_is_a_conflict_and_stores_nothing() {
    let server = Server::builder().jetstream().start().await;
    let pubsub = orders(&server).await.pubsub();
    let publish = || pubsub.publish("orders.a", &0).jetstream();
    publish().message_id("one").await.unwrap();
    pubsub.publish("orders.b", &0).jetstream().message_id("two").await.unwrap();

    for (what, call) in [
        ("stream", publish().expect_stream("OTHER")),
        ("last sequence", publish().expect_last_sequence(1)),
        ("last message id", publish().expect_last_message_id("one")),
        ("last subject sequence", publish().expect_last_subject_sequence(2)),
        ("nothing there", publish().expect_last_subject_sequence(0)),
    ] {
        let error = call.await.unwrap_err();
        assert!(error.is_conflict(), "{what}: {error}");
        assert_eq!(error.context("topic"), Some("orders.a"));
    }
    let call = publish()
        .expect_stream("ORDERS")
        .expect_last_sequence(2)
        .expect_last_message_id("two")
        .expect_last_subject_sequence(1);
    assert_eq!(call.await.unwrap().sequence, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_a_stream_is_a_clear_error() {
    let (with, without) =
        (Server::builder().jetstream().start().await, Server::builder().start().await);
    let memory = Connector::memory().pubsub();
    for pubsub in [orders(&with).await.pubsub(), connect(&without).await.pubsub(), memory] {
        let error = pubsub.publish("payments.new", &1).jetstream().await.unwrap_err();
        assert!(error.is_no_responders(), "{error}");
        assert_eq!(error.context("topic"), Some("payments.new"));
        assert!(error.to_string().contains("create a stream"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_the_stream_does_not_allow_is_refused_by_name() {
    let server = Server::builder().jetstream().start().await;
    let connector = orders(&server).await;
    let pubsub = connector.pubsub();
    let publish = || pubsub.publish("orders.a", &0).jetstream();
    let error = publish().ttl(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(".message_ttl(true)"), "{error}");
    let error = publish().message_id("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = publish().ttl(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

    let config = Config {
        name: "SESSIONS".to_owned(),
        subjects: vec!["sessions.>".to_owned()],
        allow_message_ttl: true,
        ..Default::default()
    };
    let stream = connector.jetstream().unwrap().create_stream(config).await.unwrap();
    let ttl = Duration::from_millis(1500);
    let ack = pubsub.publish("sessions.a", &0).jetstream().ttl(ttl).await.unwrap();
    let stored = stream.get_raw_message(ack.sequence).await.unwrap();
    assert_eq!(stored.headers.get("Nats-TTL").unwrap().as_str(), "2");
}

/// A server that knows no lifetimes would keep the message for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_that_the_server_would_drop_is_refused_before_anything_is_sent() {
    if !require(Version::V2_10) {
        return;
    }
    let server = Server::builder().jetstream().version(Version::V2_10).start().await;
    let connector = orders(&server).await;
    let pubsub = connector.pubsub();
    let with_ttl = || pubsub.publish("orders.a", &0).jetstream().ttl(Duration::from_secs(60));
    let items = vec![Outgoing::from(with_ttl()), pubsub.publish("orders.a", &1).into()];
    let report = pubsub.publish_many(items).await.unwrap();
    assert_eq!((report.stored, report.failed), (1, 1), "{report:?}");
    let many = report.into_result().unwrap_err();
    let atomic = pubsub.publish_many(vec![Outgoing::from(with_ttl())]).all_or_nothing();
    for (error, words) in [
        (with_ttl().await.unwrap_err(), "message TTL needs nats-server 2.11"),
        (many, "message TTL needs nats-server 2.11"),
        (atomic.await.unwrap_err(), "atomic publish needs nats-server 2.12"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let ack = pubsub.publish("orders.a", &2).jetstream().await.unwrap();
    assert_eq!(ack.sequence, 2);
}
