//! Once, at a time or after a time.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::future::try_join_all;
use nats_connector::pubsub::PubSub;
use nats_connector::{Connector, Serializer};
use testkit::{Version, eventually, require, size};

use crate::{connect, create, header, in_seconds, jetstream, orders, payloads, stored, wait_for};

/// What every driver and server that can publish later does.
async fn suite(pubsub: &PubSub) {
    create(pubsub, &orders().message_ttl(true)).await;
    it_comes_when_it_is_due(pubsub).await;
    // They wait more than they work.
    tokio::join!(
        a_past_time_is_now(pubsub),
        what_comes_is_what_was_given(pubsub),
        the_same_name_replaces(pubsub),
        names_belong_to_topics(pubsub),
    );
}

async fn it_comes_when_it_is_due(pubsub: &PubSub) {
    let due = in_seconds(1.0);
    let first = pubsub.publish("orders.due", &"at").at(due).await.unwrap();
    let second =
        pubsub.publish("orders.due", &"after").after(Duration::from_secs(2)).await.unwrap();
    assert_eq!(first.stream, "ORDERS");
    assert!(first.name != second.name && first.subject != second.subject);
    assert_eq!(second.sequence, first.sequence + 1);

    let came = wait_for(pubsub, "ORDERS", "orders.due", 2).await;
    assert_eq!(payloads(&came), ["\"at\"", "\"after\""]);
    // The server's clock is this machine's.
    for (message, due) in came.iter().zip([due, due + Duration::from_secs(1)]) {
        assert!(message.stored >= due, "{:?} before {due:?}", message.stored);
    }
    // Nothing is left of the schedules.
    for subject in [&first.subject, &second.subject] {
        eventually(crate::PATIENCE, || async {
            stored(pubsub, "ORDERS", subject).await.is_empty()
        })
        .await;
    }
    assert!(!first.cancel().await.unwrap());
}

async fn a_past_time_is_now(pubsub: &PubSub) {
    for time in [SystemTime::UNIX_EPOCH, SystemTime::now() - Duration::from_millis(3_599_500)] {
        pubsub.publish("orders.past", &1).at(time).await.unwrap();
    }
    pubsub.publish("orders.past", &1).after(Duration::ZERO).await.unwrap();
    wait_for(pubsub, "ORDERS", "orders.past", 3).await;
}

async fn what_comes_is_what_was_given(pubsub: &PubSub) {
    let packed = pubsub.with_serializer(Serializer::message_pack()).with_prefix("orders.");
    let later = packed
        .publish("given", &vec![1, 2, 3])
        .header("Trace", "a")
        .header("Trace", "b")
        .after(Duration::ZERO)
        .ttl(Duration::from_millis(59_500));
    let scheduled = later.await.unwrap();
    pubsub.publish_bytes("orders.empty", "").after(Duration::ZERO).await.unwrap();

    let came = wait_for(pubsub, "ORDERS", "orders.given", 1).await.remove(0);
    let headers = came.message.headers.as_ref().unwrap();
    assert_eq!(
        headers.get_all("Trace").map(|value| value.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(header(&came, "Content-Type"), Some("application/msgpack"));
    assert_eq!(header(&came, "Nats-Scheduler"), Some(scheduled.subject.as_str()));
    assert_eq!(header(&came, "Nats-Schedule-Next"), Some("purge"));
    assert_eq!(header(&came, "Nats-TTL").map(|ttl| ttl.trim_end_matches('s')), Some("60"));
    for name in ["Nats-Msg-Id", "Nats-Rollup", "Nats-Schedule", "Nats-Schedule-Target"] {
        assert_eq!(header(&came, name), None);
    }
    assert_eq!(packed.unmarshal::<Vec<i32>>(&came.message.payload).unwrap(), [1, 2, 3]);
    let empty = wait_for(pubsub, "ORDERS", "orders.empty", 1).await.remove(0);
    assert!(empty.message.payload.is_empty());
}

async fn the_same_name_replaces(pubsub: &PubSub) {
    let publish = |value: &str, seconds| {
        pubsub.publish("orders.named", value).at(in_seconds(seconds)).name("one-of_2")
    };
    let first = publish("early", 3600.0).await.unwrap();
    let second = publish("late", 1.0).await.unwrap();
    assert_eq!(first.subject, second.subject);
    assert_eq!((first.name.as_str(), second.name.as_str()), ("one-of_2", "one-of_2"));
    assert!(second.sequence > first.sequence);
    wait_for(pubsub, "ORDERS", "orders.named", 1).await;
    assert!(stored(pubsub, "ORDERS", &second.subject).await.is_empty());
    assert_eq!(payloads(&stored(pubsub, "ORDERS", "orders.named").await), ["\"late\""]);
}

async fn names_belong_to_topics(pubsub: &PubSub) {
    let eu = pubsub.with_prefix("orders.eu.");
    let us = pubsub.with_prefix("orders.us.");
    let far = || in_seconds(3600.0);
    let here = eu.publish("report", &1).at(far()).name("daily").await.unwrap();
    let there = us.publish("report", &2).at(far()).name("daily").await.unwrap();
    assert_ne!(here.subject, there.subject);
    assert!(eu.cancel_schedule("report", "daily").await.unwrap());
    assert!(!eu.cancel_schedule("report", "daily").await.unwrap());
    let again = eu.cancel_schedule("orders.us.report", "daily").ignore_prefix();
    assert!(again.await.unwrap());
    assert!(!there.cancel().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_2_15() {
    let server = jetstream(Version::V2_15).await;
    suite(&connect(&server).await.pubsub()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_2_12() {
    if !require(Version::V2_12) {
        return;
    }
    let server = jetstream(Version::V2_12).await;
    suite(&connect(&server).await.pubsub()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_process() {
    suite(&Connector::memory().pubsub()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_come_once_each() {
    let server = jetstream(Version::V2_15).await;
    let pubsub = connect(&server).await.pubsub();
    create(&pubsub, &orders()).await;
    let count: usize = size(1_000, 20_000);
    for start in (0..count).step_by(100) {
        let calls = (start..start + 100).map(|n| {
            let topic = format!("orders.many.{n}");
            pubsub.publish(topic, &n).after(Duration::from_millis(500 + 3 * n as u64))
        });
        let scheduled = try_join_all(calls).await.unwrap();
        assert_eq!(scheduled.len(), 100);
    }
    let came = wait_for(&pubsub, "ORDERS", "orders.many.*", count).await;
    let different: HashSet<_> = payloads(&came).into_iter().collect();
    assert_eq!((came.len(), different.len()), (count, count));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_max_age_leaves_schedules_alone() {
    let server = jetstream(Version::V2_15).await;
    let pubsub = connect(&server).await.pubsub();
    let config = orders().max_age(Duration::from_secs(1)).message_ttl(true);
    create(&pubsub, &config).await;
    let (minute, later) = (Duration::from_secs(60), Duration::from_secs(3));
    pubsub.publish("orders.a", &1).after(later).ttl(minute).await.unwrap();
    let came = wait_for(&pubsub, "ORDERS", "orders.a", 1).await;
    assert_eq!(payloads(&came), ["1"]);
}
