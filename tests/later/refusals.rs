//! What cannot be done is refused before anything is sent, and says what to do.

use std::time::{Duration, SystemTime};

use nats_connector::pubsub::PubSub;
use nats_connector::streams::{Retention, StreamConfig};
use nats_connector::{Connector, Error, ErrorKind};
use testkit::{Version, require};

use crate::{connect, create, in_seconds, jetstream, orders, stored};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn assert_refused(error: &Error, kind: ErrorKind, words: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "no {words:?} in: {error}");
}

async fn arguments(pubsub: &PubSub) {
    create(pubsub, &orders()).await;
    let publish = || pubsub.publish("orders.a", &1);
    let invalid = ErrorKind::InvalidInput;
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(300 * 365 * 24 * 3600);
    for (call, words) in [
        (publish().at(late), "2262"),
        (publish().after(Duration::MAX), "2262"),
        (publish().every(Duration::ZERO), "at least one"),
        (publish().every(SECOND / 2), "at least one"),
        (publish().every(SECOND * 3 / 2), "whole seconds"),
        (publish().every(Duration::from_secs(u64::MAX)), "100 years"),
        (publish().cron("*/5 * * * *"), "6 fields"),
        (publish().cron("whenever"), "6 fields"),
        (publish().after(SECOND).time_zone("Europe/Berlin"), "only a cron expression"),
        (publish().after(SECOND).name(""), "1 to 255"),
        (publish().after(SECOND).name("a.b"), "1 to 255"),
        (publish().after(SECOND).name("*"), "1 to 255"),
        (publish().after(SECOND).name("x".repeat(256)), "1 to 255"),
        (publish().after(SECOND).ttl(Duration::ZERO), "message_ttl(true)"),
        (pubsub.publish("orders.*", &1).after(SECOND), "wildcard"),
        (pubsub.publish("orders.a", &1).header("a", "b\r\nc").after(SECOND), "CR or LF"),
    ] {
        let error = call.await.unwrap_err();
        let kind = if words.contains("ttl") { ErrorKind::Unsupported } else { invalid };
        assert_refused(&error, kind, words);
        assert!(error.to_string().starts_with("publish later: "), "{error}");
    }
    let error = pubsub.cancel_schedule("orders.a", "a b").await.unwrap_err();
    assert_refused(&error, invalid, "1 to 255");
    let error = pubsub.cancel_schedule("orders.>", "a").await.unwrap_err();
    assert_refused(&error, invalid, "wildcard");
    assert!(stored(pubsub, "ORDERS", ">").await.is_empty());
}

async fn streams(pubsub: &PubSub) {
    create(pubsub, &StreamConfig::new("PLAIN", ["plain.>"])).await;
    create(pubsub, &StreamConfig::new("AGING", ["aging.>"]).schedules(true).max_age(60 * SECOND))
        .await;
    let interest = StreamConfig::new("INTEREST", ["interest.>"]);
    create(pubsub, &interest.schedules(true).retention(Retention::Interest)).await;
    let publish = |topic: &'static str| pubsub.publish(topic, &1);

    let error = publish("nowhere").after(SECOND).await.unwrap_err();
    assert_refused(&error, ErrorKind::NotFound, "create a stream with this subject");
    assert_eq!(error.context("topic"), Some("nowhere"));
    let error = pubsub.cancel_schedule("nowhere", "a").await.unwrap_err();
    assert_refused(&error, ErrorKind::NotFound, "create a stream");

    let unsupported = ErrorKind::Unsupported;
    for error in [
        publish("plain.a").at(in_seconds(1.0)).await.unwrap_err(),
        pubsub.cancel_schedule("plain.a", "a").await.unwrap_err(),
    ] {
        assert_refused(&error, unsupported, ".schedules(true)");
        assert_eq!(error.context("stream"), Some("PLAIN"));
    }
    let error = publish("interest.a").after(SECOND).await.unwrap_err();
    assert_refused(&error, unsupported, "retention by interest");
    let error = publish("aging.a").after(60 * SECOND).await.unwrap_err();
    assert_refused(&error, unsupported, "max_age");
    let error = publish("aging.a").every(SECOND).await.unwrap_err();
    assert_refused(&error, unsupported, "max_age");
    let error = publish("aging.a").after(SECOND).ttl(SECOND).await.unwrap_err();
    assert_refused(&error, unsupported, ".message_ttl(true)");
    publish("aging.a").after(50 * SECOND).await.unwrap();
    for stream in ["PLAIN", "INTEREST"] {
        assert!(stored(pubsub, stream, ">").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_streams_on_2_15() {
    let server = jetstream(Version::V2_15).await;
    let pubsub = connect(&server).await.pubsub();
    arguments(&pubsub).await;
    let error = pubsub.publish("orders.a", &1).cron("0 0 0 31 2 *").await.unwrap_err();
    assert_refused(&error, ErrorKind::InvalidInput, "never comes");
    assert!(!error.to_string().contains("6 fields"), "{error}");
    streams(&pubsub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_streams_in_process() {
    let pubsub = Connector::memory().pubsub();
    arguments(&pubsub).await;
    streams(&pubsub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeating_on_2_12() {
    if !require(Version::V2_12) {
        return;
    }
    let server = jetstream(Version::V2_12).await;
    let pubsub = connect(&server).await.pubsub();
    create(&pubsub, &orders()).await;
    for call in [
        pubsub.publish("orders.a", &1).every(SECOND),
        pubsub.publish("orders.a", &1).cron("@daily"),
        pubsub.publish("orders.a", &1).cron("@daily").time_zone("Europe/Berlin"),
    ] {
        let error = call.await.unwrap_err();
        assert_refused(&error, ErrorKind::Unsupported, "needs nats-server 2.14");
    }
    assert!(stored(&pubsub, "ORDERS", ">").await.is_empty());
}

/// They would store a schedule as any other message.
#[tokio::test(flavor = "multi_thread")]
async fn everything_on_older_servers() {
    for version in [Version::V2_11, Version::V2_10] {
        if !require(version) {
            continue;
        }
        let server = jetstream(version).await;
        let pubsub = connect(&server).await.pubsub();
        create(&pubsub, &StreamConfig::new("ORDERS", ["orders.>"])).await;
        let error = pubsub.publish("orders.a", &1).after(SECOND).await.unwrap_err();
        assert_refused(&error, ErrorKind::Unsupported, "needs nats-server 2.12");
        let error = pubsub.publish("orders.a", &1).every(SECOND).await.unwrap_err();
        assert_refused(&error, ErrorKind::Unsupported, "needs nats-server 2.14");
        assert!(stored(&pubsub, "ORDERS", ">").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_without_jetstream() {
    let server = testkit::Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    let error = pubsub.publish("orders.a", &1).after(SECOND).await.unwrap_err();
    assert!(error.to_string().contains("JetStream"), "{error}");
}
