//! Options: what is refused, what is found, what is made.

use std::time::Duration;

use nats_connector::pubsub::{Message, Start};
use nats_connector::{Call, ErrorKind};

use super::*;

async fn nothing(_: Message) {}

#[tokio::test]
async fn what_can_never_work_is_refused_by_name() {
    let bench = Bench::start().await;
    let to = |topic: &'static str| bench.pubsub.subscribe(topic, nothing);
    let call = || to("orders.*").durable("billing");
    for (call, named) in [
        (to("orders.*").queue("workers").durable("billing"), "queue=workers"),
        (to("orders.*").durable(""), "bad name"),
        (to("orders.*").durable("a.b"), "name=a.b"),
        (to("orders.*").durable("a b"), "name=a b"),
        (to("orders.*").durable("x".repeat(256)), "255 bytes"),
        (to("orders..new").durable("billing"), "topic=orders..new"),
        (call().ack_wait(Duration::from_millis(99)), "option=ack_wait"),
        (call().max_deliver(0), "option=max_deliver"),
        (call().max_in_flight(0), "option=max_in_flight"),
        (call().batch(0), "option=batch"),
        (call().max_in_flight(usize::MAX), "1 to 1,000,000,000"),
        (call().batch(usize::MAX), "1 to 1,000,000,000"),
        (call().stream(""), "no name"),
        (call().stream("*"), "stream=*"),
        (call().concurrency(0), "concurrency of 0"),
        (call().concurrency(65_537), "concurrency of 65537"),
        (call().max_deliver(3).without_dead_letters(), "option=max_deliver"),
        (call().dead_letters("dead.*"), "wildcard"),
        (call().dead_letters("orders.dead"), "its own dead letters"),
        (call().also("orders.new"), "other=orders.*"),
        (to("dead.>").durable("billing"), "its own dead letters"),
    ] {
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
        assert!(error.context("durable").is_some());
    }
    let names = bench.api(&format!("CONSUMER.NAMES.{STREAM}"), Value::Null).await;
    assert_eq!(names["total"], 0);
    let names = bench.api("STREAM.NAMES", Value::Null).await;
    assert_eq!(names["streams"], serde_json::json!([STREAM]));
}

#[tokio::test]
async fn the_stream_is_found_by_the_topics() {
    let bench = Bench::start().await;
    bench.stream(StreamConfig::new("PARCELS", ["parcels.>"])).await;
    let to = |topic: &'static str| bench.pubsub.subscribe(topic, nothing).durable("billing");
    let error = to("letters.*").await.unwrap_err();
    assert_eq!((error.kind(), error.context("topic")), (ErrorKind::NotFound, Some("letters.*")));
    let error = to("orders.*").also("parcels.*").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("PARCELS"), "{error}");
    let error = to("orders.*").stream("NOWHERE").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    to("parcels.*").await.unwrap();
    let info = bench.api("CONSUMER.INFO.PARCELS.billing", Value::Null).await;
    assert_eq!(info["config"]["filter_subject"], "parcels.*");
}

#[tokio::test]
async fn several_topics_with_a_prefix() {
    let bench = Bench::start().await;
    bench.stream(StreamConfig::new("APP", ["app.>"])).await;
    let prefixed = bench.pubsub.with_prefix("app.");
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        log.push(msg.topic().to_owned());
        async {}
    };
    let call = prefixed.subscribe("orders.*", handler).durable("billing").also("parcels.new");
    let subscription = call.await.unwrap();
    assert_eq!(subscription.topic(), "app.orders.*");
    for topic in ["orders.new", "parcels.old", "parcels.new", "orders.paid"] {
        prefixed.publish(topic, &1).jetstream().await.unwrap();
    }
    seen.reach(3).await;
    let info = bench.api("CONSUMER.INFO.APP.billing", Value::Null).await;
    assert_eq!(
        info["config"]["filter_subjects"],
        serde_json::json!(["app.orders.*", "app.parcels.new"])
    );
    assert_eq!(seen.all(), ["orders.new", "parcels.new", "orders.paid"]);
    let call = prefixed.subscribe("orders.*", nothing).ignore_prefix().durable("plain");
    assert_eq!(call.await.unwrap().topic(), "orders.*");
}

#[tokio::test]
async fn differences_are_told_and_left_or_overwritten() {
    let bench = Bench::start().await;
    let call = || bench.pubsub.subscribe("orders.*", nothing).durable("billing");
    let first = call().max_in_flight(7).await.unwrap();
    assert_eq!(first.differences(), []);
    let second = call().ack_wait(Duration::from_secs(5)).await.unwrap();
    let mut options: Vec<_> = second.differences().iter().map(|it| it.option).collect();
    options.sort_unstable();
    assert_eq!(options, ["ack_wait", "max_in_flight"]);
    assert_eq!(bench.consumer("billing").await["config"]["max_ack_pending"], 7);
    let third = call().ack_wait(Duration::from_secs(5)).overwrite().await.unwrap();
    assert_eq!(third.differences(), []);
    let info = bench.consumer("billing").await;
    assert_eq!(info["config"]["max_ack_pending"], 10_000);
    assert_eq!(info["config"]["ack_wait"], 5_000_000_000_u64);
}

#[tokio::test]
async fn a_consumer_that_gives_messages_up_by_itself_is_joined_only_to_change_it() {
    let bench = Bench::start().await;
    let found = serde_json::json!({ "stream_name": STREAM, "config": {
        "durable_name": "billing", "name": "billing", "ack_policy": "explicit", "max_deliver": 3,
        "filter_subject": "orders.*", "backoff": [1_000_000_000_u64, 2_000_000_000_u64],
    }});
    let made = bench.api(&format!("CONSUMER.CREATE.{STREAM}.billing.orders.*"), found).await;
    assert!(made["error"].is_null(), "{made}");
    let call = || bench.pubsub.subscribe("orders.*", nothing).durable("billing");
    for call in [call(), call().max_deliver(3), call().unlimited_deliveries()] {
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("3 deliveries (max_deliver)"), "{error}");
        assert!(error.to_string().contains(".overwrite()"), "{error}");
    }
    assert_eq!(bench.consumer("billing").await["config"]["max_deliver"], 3, "left as it is");
    let subscription = call().overwrite().await.unwrap();
    assert_eq!(bench.consumer("billing").await["config"]["max_deliver"], -1);
    bench.publish("orders.new", [1]).await;
    eventually(PATIENCE, || async { subscription.stats().handled == 1 }).await;
    call().await.unwrap();
}

#[tokio::test]
async fn a_new_consumer_begins_where_it_is_told() {
    let bench = Bench::start().await;
    bench.publish("orders.old", 1..=3).await;
    for (name, start, first) in [
        ("all", Start::All, 1),
        ("new", Start::New, 4),
        ("third", Start::Sequence(3), 3),
        ("epoch", Start::Time(std::time::UNIX_EPOCH), 1),
    ] {
        let seen = Seen::new();
        let log = seen.clone();
        let handler = move |msg: Message| {
            log.push(msg.delivery().unwrap().sequence());
            async {}
        };
        let call = bench.pubsub.subscribe("orders.*", handler).durable(name).start(start);
        let subscription = call.await.unwrap();
        if first == 4 {
            bench.publish("orders.new", [4]).await;
        }
        seen.reach(1).await;
        assert_eq!(seen.all()[0], first, "{name}");
        subscription.unsubscribe().await.unwrap();
    }
}

#[tokio::test]
async fn a_deleted_consumer_is_made_again_and_counted() {
    let bench = Bench::start().await;
    let call = bench.pubsub.subscribe("orders.*", nothing).durable("billing");
    let subscription = call.await.unwrap();
    bench.publish("orders.new", 0..10).await;
    eventually(PATIENCE, || async { subscription.stats().handled == 10 }).await;
    bench.settled("billing").await;
    bench.api(&format!("CONSUMER.DELETE.{STREAM}.billing"), Value::Null).await;
    eventually(PATIENCE, || async { subscription.stats().remade == 1 }).await;
    bench.publish("orders.new", 10..20).await;
    eventually(PATIENCE, || async { subscription.stats().handled >= 20 }).await;
    bench.settled("billing").await;
}

#[tokio::test]
async fn the_call_keeps_its_time_limit() {
    let mut bench = Bench::start().await;
    let call: Call<_> = bench.pubsub.subscribe("orders.*", nothing).timeout(PATIENCE / 100);
    let call = call.durable("billing");
    bench.server.kill().await;
    let begun = Instant::now();
    let error = call.await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
}
