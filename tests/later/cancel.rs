//! Cancelling, in time and too late.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use nats_connector::connector::State;
use nats_connector::pubsub::PubSub;
use nats_connector::{Connector, ErrorKind};
use testkit::{Version, eventually, size};
use tokio::time::sleep;

use crate::{connect, create, in_seconds, jetstream, orders, stored, wait_for};

async fn suite(pubsub: &PubSub, other: &PubSub) {
    create(pubsub, &orders()).await;
    tokio::join!(by_handle_and_by_name(pubsub, other), what_was_not_cancelled_comes(pubsub));
}

async fn by_handle_and_by_name(pubsub: &PubSub, other: &PubSub) {
    // Time enough for a busy machine to cancel them before.
    let due = in_seconds(6.0);
    let publish = |topic: &'static str| pubsub.publish(topic, &1).at(due);
    let handle = publish("orders.by.handle").await.unwrap();
    publish("orders.by.name").name("named").await.unwrap();
    publish("orders.by.nobody").await.unwrap();
    assert!(handle.cancel().await.unwrap());
    assert!(!handle.cancel().await.unwrap());
    // Another process says the same names.
    assert!(other.cancel_schedule("orders.by.name", "named").await.unwrap());
    assert!(!pubsub.cancel_schedule("orders.by.name", "named").await.unwrap());
    assert!(!other.cancel_schedule("orders.by.name", "never-there").await.unwrap());
    wait_for(pubsub, "ORDERS", "orders.by.nobody", 1).await;
    assert_eq!(stored(pubsub, "ORDERS", "orders.by.*").await.len(), 1);
}

/// Nothing is lost without a word, and nothing comes twice. Only around the moment that it is due, what
/// was cancelled may be on its way already.
async fn what_was_not_cancelled_comes(pubsub: &PubSub) {
    let count = size(200, 2_000);
    let due = in_seconds(1.5);
    let calls = (0..count).map(|n| {
        let publish = pubsub.publish(format!("orders.race.{n}"), &n).at(due);
        async move { publish.await.unwrap() }
    });
    let scheduled = join_all(calls).await;
    let left = due.duration_since(SystemTime::now()).unwrap_or_default();
    let start = left.saturating_sub(Duration::from_millis(500));
    let cancels = scheduled.iter().enumerate().map(|(n, scheduled)| async move {
        sleep(start + Duration::from_secs(1) * n as u32 / count as u32).await;
        let cancelled = scheduled.cancel().await.unwrap();
        (cancelled, cancelled && SystemTime::now() < due)
    });
    let cancelled = join_all(cancels).await;
    let published = cancelled.iter().filter(|(cancelled, _)| !*cancelled).count();
    wait_for(pubsub, "ORDERS", "orders.race.*", published).await;
    for (n, (cancelled, in_time)) in cancelled.into_iter().enumerate() {
        let came = stored(pubsub, "ORDERS", &format!("orders.race.{n}")).await.len();
        assert!(came <= 1, "{n} came {came} times");
        assert!(cancelled || came == 1, "{n} was neither cancelled nor published");
        assert!(!in_time || came == 0, "{n} was cancelled in time and published");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_2_15() {
    let server = jetstream(Version::V2_15).await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    suite(&one.pubsub(), &two.pubsub()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_process() {
    let pubsub = Connector::memory().pubsub();
    suite(&pubsub, &pubsub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_two_processes_make_one_schedule() {
    let server = jetstream(Version::V2_15).await;
    let instances = [connect(&server).await, connect(&server).await, connect(&server).await];
    create(&instances[0].pubsub(), &orders()).await;
    let ask = |connector: &Connector| {
        let pubsub = connector.pubsub();
        async move {
            let every = pubsub.publish("orders.tick", &1).every(Duration::from_secs(3600));
            every.name("tick").await.unwrap()
        }
    };
    let all = join_all(instances.iter().map(ask)).await;
    assert!(all.iter().all(|one| one.subject == all[0].subject), "{all:?}");
    assert_eq!(stored(&instances[1].pubsub(), "ORDERS", &all[0].subject).await.len(), 1);
    assert!(all[2].cancel().await.unwrap());
    assert!(!all[0].cancel().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_answer() {
    let mut server = jetstream(Version::V2_15).await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    create(&pubsub, &orders()).await;
    let scheduled = pubsub.publish("orders.a", &1).at(in_seconds(3600.0)).await.unwrap();
    server.kill().await;
    // What is asked before that is noticed may take place later.
    eventually(crate::PATIENCE, || async { connector.state() == State::Disconnected }).await;
    let limit = Duration::from_secs(1);
    let error = scheduled.cancel().timeout(limit).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let error = pubsub.cancel_schedule("orders.a", "x").timeout(limit).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let error = pubsub.publish("orders.a", &1).at(in_seconds(1.0)).timeout(limit);
    assert!(error.await.unwrap_err().is_retryable());

    server.restart().await;
    eventually(crate::PATIENCE, || async { pubsub.streams().status("ORDERS").await.is_ok() }).await;
    assert!(scheduled.cancel().await.unwrap());
    assert!(pubsub.streams().delete("ORDERS").await.unwrap());
    let error = scheduled.cancel().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
