//! Replaying: one, all, some; here and elsewhere; by two at once.

use std::time::Duration;

use futures::future::join_all;
use nats_connector::pubsub::{Outcome, PubSub};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, ErrorKind};
use testkit::eventually;

use crate::{
    Billing, PATIENCE, all, connect, create, dead_orders, jetstream, stored, values, wait_for,
};

async fn one_by_one(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 3).await;
    create(pubsub, "REPAIRED", "repaired.>").await;
    let letters = all(&dead).await;

    let ack = dead.replay(letters[0].sequence()).await.unwrap().unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence, ack.duplicate), ("ORDERS", 4, false));
    assert!(dead.replay(letters[0].sequence()).await.unwrap().is_none());
    let again = stored(pubsub, "ORDERS", "orders.1").await.remove(1);
    assert_eq!(again.message.payload, "1");
    let headers = again.message.headers.unwrap();
    let traces: Vec<_> = headers.get_all("Trace").map(|value| value.as_str()).collect();
    assert_eq!(traces, ["a", "1"]);
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_string()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Nats-Msg-Id", "Trace"]);

    let elsewhere = dead.replay(letters[1].sequence()).to("repaired.orders");
    assert_eq!(elsewhere.await.unwrap().unwrap().stream, "REPAIRED");
    assert_eq!(stored(pubsub, "REPAIRED", ">").await[0].message.payload, "2");
    assert_eq!(stored(pubsub, "ORDERS", "orders.2").await.len(), 1);
    assert_eq!(values(&dead).await, [3]);

    let error = dead.replay(letters[2].sequence()).to("a.*").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(values(&dead).await, [3]);
}

async fn all_at_once(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 20).await;
    let small = dead.clone().matching(|letter| letter.decode::<u32>().unwrap() <= 5);
    let report = small.replay_all().await.unwrap();
    assert_eq!((report.replayed, report.failed.len(), report.gave_up), (5, 0, false));
    assert_eq!(dead.count().await.unwrap(), 15);

    let billing = Billing::default();
    billing.repair();
    let subscription = billing.subscribe(pubsub).await;
    assert_eq!(dead.replay_all().await.unwrap().replayed, 15);
    eventually(PATIENCE, || async { subscription.stats().handled >= 20 }).await;
    assert_eq!(dead.count().await.unwrap(), 0);
    // The order of the dead letters, each once.
    let replayed = stored(pubsub, "ORDERS", ">").await.split_off(20);
    let values: Vec<u32> = replayed
        .iter()
        .map(|message| pubsub.unmarshal(&message.message.payload).unwrap())
        .collect();
    assert_eq!(values, (1..=20).collect::<Vec<_>>());
}

/// It ends, although what it replays comes back.
async fn what_fails_again_is_a_new_dead_letter(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 3).await;
    let before = all(&dead).await;
    let _subscription = Billing::default().subscribe(pubsub).await;
    assert_eq!(dead.replay_all().await.unwrap().replayed, 3);
    wait_for(&dead, 3).await;
    let after = all(&dead).await;
    assert!(after[0].sequence() > before[2].sequence());
    assert_eq!(after[0].stream_sequence(), 4);
    assert_eq!(values(&dead).await, [1, 2, 3]);
    assert_eq!(after[1].cause(), "no tax for 2");
    assert_eq!(after[1].header("Trace"), Some("a"));
}

async fn what_cannot_be_replayed_stays(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 3).await;
    assert!(pubsub.streams().delete("ORDERS").await.unwrap());
    create(pubsub, "SOME", "orders.2").await;
    let report = dead.replay_all().await.unwrap();
    assert_eq!((report.replayed, report.gave_up), (1, false));
    let failed: Vec<_> = report.failed.iter().map(|failure| failure.sequence).collect();
    let left: Vec<_> = all(&dead).await.iter().map(|letter| letter.sequence()).collect();
    assert_eq!(failed, left);
    assert_eq!(values(&dead).await, [1, 3]);
    let error = &report.failed[0].error;
    assert!(error.is_no_responders(), "{error}");
    assert_eq!(error.context("topic"), Some("orders.1"));
    let error = dead.replay(left[0]).await.unwrap_err();
    assert!(error.is_no_responders(), "{error}");
    assert_eq!(error.context("sequence"), Some(left[0].to_string().as_str()));
}

async fn two_operators(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 50).await;
    let reports = join_all([dead.replay_all(), dead.replay_all(), dead.replay_all()]).await;
    let replayed: u64 = reports.iter().map(|report| report.as_ref().unwrap().replayed).sum();
    assert!(reports.iter().all(|report| report.as_ref().unwrap().failed.is_empty()));
    // One may store a message and another one take it out: both have brought it on its way.
    assert!(replayed >= 50, "{replayed}");
    assert_eq!(dead.count().await.unwrap(), 0);
    for n in 1..=50 {
        let times = stored(pubsub, "ORDERS", &format!("orders.{n}")).await.len();
        assert_eq!(times, 2, "order {n}");
    }
}

/// A message that came later, by a schedule, carries headers that cancel schedules when they are
/// published again.
async fn scheduled_messages_can_die_and_live_again(pubsub: &PubSub) {
    let config = StreamConfig::new("LATER", ["later.>"]).schedules(true);
    pubsub.stream(config).await.unwrap();
    let subscribe = pubsub.subscribe("later.>", |_| async { Outcome::reject("no") });
    let subscription = subscribe.durable("reminders").await.unwrap();
    pubsub.publish("later.a", &1).header("Trace", "a").after(Duration::ZERO).await.unwrap();
    let dead = pubsub.dead_letters("reminders");
    let there = || async { dead.count().await.is_ok_and(|count| count == 1) };
    eventually(PATIENCE, there).await;
    subscription.drain().await.unwrap();
    let letter = all(&dead).await.remove(0);
    assert_eq!((letter.topic(), letter.header("Trace")), ("later.a", Some("a")));
    assert_eq!(letter.headers().len(), 1);
    assert!(dead.replay(letter.sequence()).await.unwrap().is_some());
    assert_eq!(stored(pubsub, "LATER", "later.a").await.len(), 2);
}

macro_rules! on_both {
    ($($name:ident;)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn on_2_15() {
                let server = super::jetstream().await;
                super::$name(&super::connect(&server).await.pubsub()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn in_process() {
                super::$name(&super::Connector::memory().pubsub()).await;
            }
        }
    )*};
}

on_both! {
    one_by_one;
    all_at_once;
    what_fails_again_is_a_new_dead_letter;
    what_cannot_be_replayed_stays;
    two_operators;
    scheduled_messages_can_die_and_live_again;
}
