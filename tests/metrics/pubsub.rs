//! Messages and requests.

use std::time::Duration;

use futures::StreamExt;
use nats_connector::pubsub::{Message, Subscription};
use testkit::eventually;

use super::{PATIENCE, Recorded, connect, connectors};

/// Waits until a subscription has done with this many messages.
async fn until_done(subscription: &Subscription, count: u64) {
    let done = || async {
        let stats = subscription.stats();
        stats.handled + stats.failed + stats.panicked == count
    };
    eventually(PATIENCE, done).await;
}

#[tokio::test]
async fn messages_are_counted_from_publish_to_the_end_of_their_handler() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let pubsub = connector.pubsub();
        let handler = |message: Message| async move {
            match message.payload().as_ref() {
                b"panic" => panic!("as the test wants it"),
                b"fail" => Err("as the test wants it"),
                _ => Ok(()),
            }
        };
        let orders = pubsub.subscribe("orders.*", handler).await.unwrap();
        recorded.skip();

        // Nobody listens: it is published, and nothing else.
        pubsub.publish("nobody.here", &1).await.unwrap();
        pubsub.flush().await.unwrap();
        let published = "messages_published_total{delivery=core} 1";
        assert_eq!(recorded.moved(driver, "NATS"), [published], "{driver}");

        pubsub.publish_bytes("orders.created", "well").await.unwrap();
        until_done(&orders, 1).await;
        let one = [
            "handler_duration_seconds{topic=orders.*} 1",
            "messages_handled_total{topic=orders.*} 1",
            published,
            "messages_received_total{topic=orders.*} 1",
        ];
        assert_eq!(recorded.moved(driver, "NATS"), one, "{driver}");

        for payload in ["fail", "panic", "well", "fail"] {
            pubsub.publish_bytes("orders.changed", payload).await.unwrap();
        }
        until_done(&orders, 5).await;
        let four = [
            "handler_duration_seconds{topic=orders.*} 4",
            "messages_failed_total{topic=orders.*,cause=error} 2",
            "messages_failed_total{topic=orders.*,cause=panic} 1",
            "messages_handled_total{topic=orders.*} 1",
            "messages_published_total{delivery=core} 4",
            "messages_received_total{topic=orders.*} 4",
        ];
        assert_eq!(recorded.moved(driver, "NATS"), four, "{driver}");

        // Refused before it is sent: the call's error is all there is.
        pubsub.publish("orders.*", &1).await.unwrap_err();
        assert!(recorded.moved(driver, "NATS").is_empty(), "{driver}");

        // A stream has no handlers.
        let mut messages = pubsub.messages("users.>").await.unwrap();
        pubsub.publish("users.new", &1).await.unwrap();
        messages.next().await.unwrap();
        let streamed = [
            "messages_handled_total{topic=users.>} 1",
            published,
            "messages_received_total{topic=users.>} 1",
        ];
        assert_eq!(recorded.moved(driver, "NATS"), streamed, "{driver}");

        connector.drain().await;
        recorded.skip();
        pubsub.publish("orders.created", &1).await.unwrap_err();
        let failed = ["publish_failures_total{delivery=core,error=closed} 1"];
        assert_eq!(recorded.moved(driver, "NATS"), failed, "{driver}");
    }
}

#[tokio::test]
async fn messages_at_work_are_in_flight_until_their_handlers_end() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let pubsub = connector.pubsub();
        let (go_on, may) = tokio::sync::watch::channel(false);
        let handler = move |_| {
            let mut may = may.clone();
            async move {
                may.wait_for(|may| *may).await.unwrap();
            }
        };
        let jobs = pubsub.subscribe("jobs", handler).concurrency(2).await.unwrap();
        recorded.skip();
        for _ in 0..3 {
            pubsub.publish("jobs", &()).await.unwrap();
        }
        // Two are at work and the third one waits.
        eventually(PATIENCE, || async { jobs.stats().received == 3 }).await;
        let begun = [
            "messages_in_flight{topic=jobs} 2",
            "messages_published_total{delivery=core} 3",
            "messages_received_total{topic=jobs} 3",
        ];
        assert_eq!(recorded.moved(driver, "NATS"), begun, "{driver}");
        go_on.send(true).unwrap();
        until_done(&jobs, 3).await;
        let ended = [
            "handler_duration_seconds{topic=jobs} 3",
            "messages_handled_total{topic=jobs} 3",
            "messages_in_flight{topic=jobs} -2",
        ];
        assert_eq!(recorded.moved(driver, "NATS"), ended, "{driver}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_what_came_of_them() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let pubsub = connector.pubsub();
        let echo = |message: Message| async move { message.respond(&1).await };
        pubsub.subscribe("echo", echo).await.unwrap();
        let silent = pubsub.messages("silent").await.unwrap();
        recorded.skip();

        pubsub.request("echo", &1).await.unwrap();
        let moved = recorded.moved(driver, "NATS");
        let answered = ["request_duration_seconds{} 1", "requests_total{} 1"];
        assert_eq!(moved[moved.len() - 2..], answered, "{driver} {moved:?}");

        recorded.skip();
        pubsub.request("nobody", &1).await.unwrap_err();
        let refused = ["request_failures_total{error=no_responders} 1"];
        assert_eq!(recorded.moved(driver, "NATS"), refused, "{driver}");

        let silence = pubsub.request("silent", &1).timeout(Duration::from_millis(50)).await;
        assert!(silence.unwrap_err().is_timeout());
        let timed_out = ["request_failures_total{error=timed_out} 1"];
        assert_eq!(recorded.moved(driver, "NATS"), timed_out, "{driver}");
        drop(silent);
    }
}

#[tokio::test]
async fn acknowledged_messages_are_counted_when_they_are_stored() {
    let recorded = Recorded::begin();
    let (_server, [_, (_, connector)]) = connectors().await;
    let config = async_nats::jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    connector.jetstream().unwrap().create_stream(config).await.unwrap();
    recorded.skip();
    let pubsub = connector.pubsub();
    pubsub.publish("orders.1", &1).jetstream().await.unwrap();
    let stored = ["messages_published_total{delivery=acked} 1", "publish_ack_duration_seconds{} 1"];
    assert_eq!(recorded.moved("nats", "NATS"), stored);

    pubsub.publish("orders.1", &1).jetstream().expect_last_sequence(7).await.unwrap_err();
    pubsub.publish("nobody", &1).jetstream().await.unwrap_err();
    let refused = [
        "publish_failures_total{delivery=acked,error=conflict} 1",
        "publish_failures_total{delivery=acked,error=no_responders} 1",
    ];
    assert_eq!(recorded.moved("nats", "NATS"), refused);
}

#[tokio::test]
async fn two_connectors_do_not_mix() {
    let recorded = Recorded::begin();
    let (server, [(_, memory), (_, nats)]) = connectors().await;
    let audit = connect(&server.url(), "AUDIT").await;
    for connector in [&memory, &nats, &audit] {
        connector.kv().set("key", &1).await.unwrap();
    }
    recorded.skip();
    audit.pubsub().publish("a", &1).await.unwrap();
    audit.kv().get::<u32>("key").await.unwrap();
    let moved = recorded.told.snapshot().into_vec();
    let others = moved.iter().filter(|(key, .., value)| {
        use metrics_util::debugging::DebugValue::{Counter, Gauge, Histogram};
        let moved = match value {
            Counter(by) => *by > 0,
            Gauge(by) => by.into_inner() != 0.0,
            Histogram(values) => !values.is_empty(),
        };
        let of = |it: &metrics::Label| it.key() == "connector" && it.value() != "AUDIT";
        moved && key.key().labels().any(of)
    });
    assert_eq!(others.count(), 0, "{moved:?}");
    assert!(moved.iter().any(|(key, ..)| key.key().labels().any(|it| it.value() == "AUDIT")));
}
