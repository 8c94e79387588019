//! Listing, filtering, reading and discarding.

use std::time::SystemTime;

use futures::TryStreamExt;
use nats_connector::pubsub::{Outcome, PubSub};
use nats_connector::{Connector, ErrorKind};

use crate::{
    Billing, PATIENCE, all, connect, create, dead_orders, jetstream, stored, values, wait_for,
};

async fn suite(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 5).await;
    a_letter_tells_its_story(pubsub).await;
    assert_eq!(values(&dead).await, [1, 2, 3, 4, 5]);

    let odd = dead.clone().matching(|letter| letter.decode::<u32>().unwrap() % 2 == 1);
    assert_eq!(values(&odd).await, [1, 3, 5]);
    assert_eq!(odd.count().await.unwrap(), 3);
    let last = odd.clone().matching(|letter| letter.topic() > "orders.3");
    assert_eq!(values(&last).await, [5]);

    // What is not meant is not there.
    let second = all(&dead).await[1].sequence();
    assert!(odd.get(second).await.unwrap().is_none());
    assert!(!odd.discard(second).await.unwrap());
    assert!(odd.replay(second).await.unwrap().is_none());
    assert_eq!(dead.get(second).await.unwrap().unwrap().topic(), "orders.2");
    assert!(dead.get(0).await.unwrap().is_none());
    assert!(dead.get(10_000).await.unwrap().is_none());

    assert!(dead.discard(second).await.unwrap());
    assert!(!dead.discard(second).await.unwrap());
    assert!(dead.get(second).await.unwrap().is_none());
    assert_eq!(odd.discard_all().await.unwrap(), 3);
    assert_eq!(values(&dead).await, [4]);
    assert_eq!(dead.discard_all().await.unwrap(), 1);
    assert_eq!(dead.discard_all().await.unwrap(), 0);
    assert!(all(&dead).await.is_empty());
    // The messages themselves are still where they were published to.
    assert_eq!(stored(pubsub, "ORDERS", ">").await.len(), 5);
}

async fn a_letter_tells_its_story(pubsub: &PubSub) {
    let letter = all(&pubsub.dead_letters("billing")).await.remove(2);
    assert_eq!((letter.topic(), letter.subject().as_str()), ("orders.3", "orders.3"));
    assert_eq!((letter.stream(), letter.stream_sequence()), ("ORDERS", 3));
    assert_eq!((letter.consumer(), letter.deliveries()), ("billing", 1));
    assert_eq!(letter.cause(), "no tax for 3");
    assert_eq!(letter.message_id(), Some("order-3"));
    assert!(letter.published().unwrap() <= letter.time());
    assert!(letter.time() <= SystemTime::now());
    let names: Vec<_> = letter.headers().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["Trace"]);
    let traces: Vec<_> = letter.headers().get_all("Trace").map(|value| value.as_str()).collect();
    assert_eq!((traces, letter.header("Trace")), (vec!["a", "3"], Some("a")));
    assert_eq!((letter.payload().as_ref(), letter.decode::<u32>().unwrap()), (&b"3"[..], 3));
    let error = letter.decode::<String>().unwrap_err();
    assert_eq!((error.kind(), error.context("topic")), (ErrorKind::Decode, Some("orders.3")));
    assert!(!format!("{letter:?}").contains("b\"3\""), "{letter:?}");
}

/// Other subscriptions' dead letters at the same topic, and what is none at all.
async fn what_is_foreign_is_left_alone(pubsub: &PubSub) {
    create(pubsub, "ORDERS", "orders.>").await;
    create(pubsub, "DEAD", "dead.>").await;
    for durable in ["billing", "shipping"] {
        let subscribe = pubsub.subscribe("orders.>", |_| async { Outcome::reject("no") });
        subscribe.durable(durable).dead_letters("dead.all").await.unwrap();
    }
    pubsub.publish("dead.all", &"not a dead letter").jetstream().await.unwrap();
    pubsub.publish("orders.new", &1).jetstream().await.unwrap();
    let [billing, shipping] =
        ["billing", "shipping"].map(|durable| pubsub.dead_letters(durable).topic("dead.all"));
    wait_for(&billing, 1).await;
    wait_for(&shipping, 1).await;
    let foreign = stored(pubsub, "DEAD", "dead.all").await.remove(0).sequence;
    assert!(billing.get(foreign).await.unwrap().is_none());
    assert!(!billing.discard(foreign).await.unwrap());
    assert_eq!(billing.discard_all().await.unwrap(), 1);
    assert_eq!(shipping.count().await.unwrap(), 1);
    assert_eq!(stored(pubsub, "DEAD", "dead.all").await.len(), 2);
    // Its own topic has a stream, and nothing in it.
    assert_eq!(pubsub.dead_letters("billing").count().await.unwrap(), 0);
}

async fn prefixes(pubsub: &PubSub) {
    create(pubsub, "ORDERS", "app.orders.>").await;
    let app = pubsub.with_prefix("app.");
    let _subscription = Billing::default().subscribe(&app).await;
    app.publish("orders.new", &1).jetstream().await.unwrap();
    wait_for(&app.dead_letters("billing"), 1).await;
    let letter = all(&app.dead_letters("billing")).await.remove(0);
    assert_eq!((letter.topic(), letter.subject().as_str()), ("orders.new", "app.orders.new"));
    let error = pubsub.dead_letters("billing").count().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

async fn nothing_there(pubsub: &PubSub) {
    let dead = pubsub.dead_letters("billing");
    for error in [
        dead.list().await.unwrap_err(),
        dead.count().await.unwrap_err(),
        dead.get(1).await.unwrap_err(),
        dead.replay(1).await.unwrap_err(),
        dead.replay_all().await.unwrap_err(),
        dead.discard(1).await.unwrap_err(),
        dead.discard_all().await.unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error}");
        assert_eq!(error.context("durable"), Some("billing"));
    }
    create(pubsub, "DEAD", "dead.>").await;
    assert!(all(&dead).await.is_empty());
    assert_eq!(dead.count().await.unwrap(), 0);
    assert_eq!(dead.replay_all().await.unwrap().replayed, 0);
    for name in ["", "a.b", "*", &"x".repeat(300)] {
        let dead = pubsub.dead_letters(name);
        for error in [
            dead.list().await.unwrap_err(),
            dead.count().await.unwrap_err(),
            dead.get(1).await.unwrap_err(),
            dead.replay(1).await.unwrap_err(),
            dead.replay_all().await.unwrap_err(),
            dead.discard(1).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.message().contains("bad name"), "{error}");
            assert!(error.context("name").is_some(), "{error}");
        }
    }
    let error = dead.topic("dead.*").count().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

/// A list is of one moment: what dies while it is read does not make it longer.
async fn a_list_ends(pubsub: &PubSub) {
    let dead = dead_orders(pubsub, 3).await;
    let mut list = dead.list().await.unwrap();
    assert!(list.try_next().await.unwrap().is_some());
    let _subscription = Billing::default().subscribe(pubsub).await;
    pubsub.publish("orders.late", &4).jetstream().await.unwrap();
    wait_for(&dead, 4).await;
    let rest: Vec<_> = tokio::time::timeout(PATIENCE, list.try_collect()).await.unwrap().unwrap();
    assert_eq!(rest.len(), 2);
}

macro_rules! on_both {
    ($($name:ident: $suite:ident;)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn on_2_15() {
                let server = super::jetstream().await;
                super::$suite(&super::connect(&server).await.pubsub()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn in_process() {
                super::$suite(&super::Connector::memory().pubsub()).await;
            }
        }
    )*};
}

on_both! {
    looked_at: suite;
    foreign: what_is_foreign_is_left_alone;
    prefixed: prefixes;
    none: nothing_there;
    list: a_list_ends;
}
