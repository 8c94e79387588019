//! What cannot be handled becomes a dead letter: once, with its cause, and only then is given up.

use std::time::Duration;

use futures::StreamExt;
use nats_connector::pubsub::{Message, Outcome};
use nats_connector::streams::Discard;
use nats_connector::{Backoff, ErrorKind};
use testkit::Proxy;

use super::*;

const QUICK: Backoff = Backoff::fixed(Duration::from_millis(20));

/// The dead letters of `billing`, in order.
async fn letters(bench: &Bench, count: usize) -> Vec<Message> {
    let (sender, mut letters) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |msg: Message| {
        let sender = sender.clone();
        async move { drop(sender.send(msg)) }
    };
    let reader = bench.pubsub.subscribe("dead.billing", handler).durable("undertaker");
    let reader = reader.without_dead_letters().await.unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let next = tokio::time::timeout(PATIENCE, letters.recv()).await;
        found.push(next.expect("no dead letter in time").unwrap());
    }
    reader.unsubscribe().await.unwrap();
    found
}

#[tokio::test]
async fn after_the_last_delivery_with_all_that_is_known() {
    let bench = Bench::start().await;
    let publish = bench.pubsub.publish("orders.eu.new", "poison").header("Customer", "ada");
    publish.jetstream().message_id("order-1").await.unwrap();
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        log.push(msg.delivery().unwrap().deliveries());
        let outer = std::io::Error::other(failed("no such\ncustomer"));
        async move { Err::<(), _>(outer) }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing");
    let subscription = call.max_deliver(3).backoff(QUICK).await.unwrap();
    let letter = letters(&bench, 1).await.remove(0);
    bench.settled("billing").await;
    assert_eq!(seen.all(), [1, 2, 3]);
    let stats = subscription.stats();
    assert_eq!((stats.retried, stats.rejected, stats.dead), (2, 0, 1));

    assert_eq!(letter.decode::<String>().unwrap(), "poison");
    assert_eq!(header(&letter, "Customer"), "ada");
    assert_eq!(header(&letter, "Dead-Letter-Cause"), "no such\\ncustomer");
    assert_eq!(header(&letter, "Dead-Letter-Deliveries"), "3");
    assert_eq!(header(&letter, "Dead-Letter-Subject"), "orders.eu.new");
    assert_eq!(header(&letter, "Dead-Letter-Stream"), STREAM);
    assert_eq!(header(&letter, "Dead-Letter-Sequence"), "1");
    assert_eq!(header(&letter, "Dead-Letter-Consumer"), "billing");
    assert_eq!(header(&letter, "Dead-Letter-Message-Id"), "order-1");
    assert!(header(&letter, "Dead-Letter-Time").starts_with("20"));
    assert!(header(&letter, "Nats-Msg-Id").starts_with("ORDERS:1:"));
    assert_eq!(letter.delivery().unwrap().stream(), "DEAD_LETTERS");
    let info = bench.api("STREAM.INFO.DEAD_LETTERS", Value::Null).await;
    assert_eq!(info["config"]["subjects"], serde_json::json!(["dead.>"]));
    assert_eq!(info["config"]["duplicate_window"], 24 * 3600 * 1_000_000_000_u64);
}

#[tokio::test]
async fn at_once_when_it_can_never_be_handled() {
    let bench = Bench::start().await;
    bench.publish("orders.new", ["reject", "text", "panic"]).await;
    let handler = |msg: Message| async move {
        match msg.decode::<String>().unwrap().as_str() {
            "reject" => Ok(Outcome::reject("unknown\r\ncustomer")),
            // The decode failure is hidden behind another error.
            "text" => match msg.decode::<u64>() {
                Ok(_) => Ok(Outcome::Ack),
                Err(_) => Err(failed("step 2")),
            },
            _ => panic!("at {}", "bottom"),
        }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing");
    let subscription = call.max_deliver(2).backoff(QUICK).await.unwrap();
    let letters = letters(&bench, 3).await;
    bench.settled("billing").await;
    let causes: Vec<_> = letters
        .iter()
        .map(|letter| {
            (header(letter, "Dead-Letter-Cause"), header(letter, "Dead-Letter-Deliveries"))
        })
        .collect();
    let panicked = "the handler panicked: at bottom";
    assert_eq!(causes, [("unknown  customer", "1"), ("step 2", "1"), (panicked, "2")]);
    let stats = subscription.stats();
    assert_eq!((stats.rejected, stats.retried, stats.dead, stats.panicked), (2, 1, 3, 2));
    assert_eq!(letters[0].header("Dead-Letter-Message-Id"), None);
}

#[tokio::test]
async fn also_when_the_member_dies_during_the_last_delivery() {
    let bench = Bench::start().await;
    let proxy = Proxy::start(bench.server.address());
    let dying = connect(&proxy.url(), &[]).await;
    bench.publish("orders.new", ["poison", "fine"]).await;
    let seen = Seen::new();
    let log = seen.clone();
    let dies = move |msg: Message| {
        let log = log.clone();
        async move {
            let what: String = msg.decode()?;
            let deliveries = msg.delivery().unwrap().deliveries();
            log.push((what.clone(), deliveries));
            match (what.as_str(), deliveries) {
                ("poison", 1) => Err(failed("again")),
                ("poison", _) => std::future::pending().await,
                _ => Ok(()),
            }
        }
    };
    let wait = Duration::from_secs(1);
    let call = dying.pubsub().subscribe("orders.>", dies).durable("billing");
    call.max_deliver(2).backoff(QUICK).ack_wait(wait).await.unwrap();
    seen.reach(3).await;
    // As the server sees it, this is a process that is gone.
    proxy.refuse();
    proxy.cut();

    let log = seen.clone();
    let handler = move |msg: Message| {
        log.push((msg.decode().unwrap(), msg.delivery().unwrap().deliveries()));
        async {}
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing");
    let survivor = call.max_deliver(2).ack_wait(wait).await.unwrap();
    assert_eq!(survivor.differences(), []);
    let letter = letters(&bench, 1).await.remove(0);
    bench.settled("billing").await;
    assert!(header(&letter, "Dead-Letter-Cause").starts_with("its last delivery was not settled"));
    let mut handled = seen.all();
    handled.sort();
    let of = |what: &str, n| (what.to_owned(), n);
    assert_eq!(handled, [of("fine", 1), of("poison", 1), of("poison", 2)]);
    assert_eq!((survivor.stats().dead, survivor.stats().received), (1, 0));
}

#[tokio::test]
async fn once_when_the_member_dies_before_the_message_is_given_up() {
    let bench = Bench::start().await;
    let proxy = Arc::new(Proxy::start(bench.server.address()));
    let dying = connect(&proxy.url(), &[]).await;
    bench.publish("orders.new", ["poison"]).await;
    let slow = proxy.clone();
    let handler = move |_: Message| {
        // The stream stores the dead letter long before this member hears of it.
        slow.set_delays(Duration::ZERO, Duration::from_secs(3));
        async { Outcome::reject("never") }
    };
    let wait = Duration::from_secs(1);
    let call = dying.pubsub().subscribe("orders.>", handler).durable("billing").ack_wait(wait);
    let mut published = bench.pubsub.messages("dead.billing").await.unwrap();
    call.await.unwrap();
    tokio::time::timeout(PATIENCE, published.next()).await.expect("no dead letter").unwrap();
    proxy.refuse();
    proxy.cut();

    let handler = |_: Message| async { Outcome::reject("never") };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").ack_wait(wait);
    let survivor = call.await.unwrap();
    eventually(PATIENCE, || async { survivor.stats().dead == 1 }).await;
    bench.settled("billing").await;
    assert_eq!(survivor.stats().redelivered, 1);
    assert_eq!(bench.stored("DEAD_LETTERS").await, 1, "the second one is the same letter");
}

#[tokio::test]
async fn what_cannot_be_stored_stays() {
    let bench = Bench::start().await;
    let full = StreamConfig::new("SMALL", ["dead.billing"]).max_message_size(600);
    bench.stream(full).await;
    bench.publish("orders.new", ["x".repeat(1_000), "y".to_owned()]).await;
    let handler = |_: Message| async { Outcome::reject("never") };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").backoff(QUICK);
    let subscription = call.await.unwrap();
    eventually(PATIENCE, || async { subscription.stats().not_stored >= 3 }).await;
    assert_eq!(subscription.stats().dead, 1, "the one that is small enough");
    assert_eq!(bench.consumer("billing").await["num_ack_pending"], 1);
    let smaller = serde_json::json!({
        "name": "SMALL", "subjects": ["dead.billing"], "max_msg_size": -1, "retention": "limits",
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "discard": "old", "storage": "file",
        "num_replicas": 1,
    });
    let updated = bench.api("STREAM.UPDATE.SMALL", smaller).await;
    assert!(updated["error"].is_null(), "{updated}");
    bench.settled("billing").await;
    assert_eq!(subscription.stats().dead, 2);
    assert_eq!(bench.stored("SMALL").await, 2);
}

/// Rejects texts that begin with "bad", at once or at the last delivery, and counts them.
async fn rejecting(bench: &Bench, bad: &Seen<String>) -> nats_connector::pubsub::Subscription {
    let log = bad.clone();
    let handler = move |msg: Message| {
        let log = log.clone();
        async move {
            let text: String = msg.decode().unwrap();
            if !text.starts_with("bad") {
                return Ok(Outcome::Ack);
            }
            log.push(text.clone());
            if text.ends_with("later") {
                Err(failed("no customer"))
            } else {
                Ok(Outcome::reject("no"))
            }
        }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").backoff(QUICK);
    call.max_deliver(2).await.unwrap()
}

fn texts() -> impl Iterator<Item = String> {
    let bad = (0..20).map(|i| format!("bad {i}")).chain(["bad later".to_owned()]);
    bad.chain((0..50).map(|i| format!("good {i}")))
}

/// Each is there, as it was when its handler was done with it; none was handled again.
async fn all_buried(bench: &Bench, bad: &Seen<String>) {
    for letter in letters(bench, 21).await {
        let text: String = letter.decode().unwrap();
        let (cause, deliveries) =
            if text.ends_with("later") { ("no customer", "2") } else { ("no", "1") };
        assert_eq!(header(&letter, "Dead-Letter-Cause"), cause, "{text}");
        assert_eq!(header(&letter, "Dead-Letter-Deliveries"), deliveries, "{text}");
        assert_eq!(bad.times(&text).to_string(), deliveries, "{text}");
    }
    bench.settled("billing").await;
}

#[tokio::test]
async fn a_full_stream_of_them_keeps_no_other_message_waiting_and_no_cause_is_lost() {
    let bench = Bench::start().await;
    let full = StreamConfig::new("SMALL", ["dead.billing"]).max_messages(1);
    bench.stream(full.discard(Discard::New)).await;
    let context = bench.connector.jetstream().unwrap();
    context.publish("dead.billing", "\"none of ours\"".into()).await.unwrap().await.unwrap();
    bench.publish("orders.new", texts()).await;
    let bad = Seen::new();
    let subscription = rejecting(&bench, &bad).await;
    eventually(PATIENCE, || async { subscription.stats().handled == 50 }).await;
    eventually(PATIENCE, || async { subscription.stats().not_stored >= 40 }).await;
    assert_eq!(subscription.stats().dead, 0);
    let larger = serde_json::json!({
        "name": "SMALL", "subjects": ["dead.billing"], "max_msg_size": -1, "retention": "limits",
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "discard": "new", "storage": "file",
        "num_replicas": 1,
    });
    bench.api("STREAM.PURGE.SMALL", Value::Null).await;
    let updated = bench.api("STREAM.UPDATE.SMALL", larger).await;
    assert!(updated["error"].is_null(), "{updated}");
    all_buried(&bench, &bad).await;
    assert_eq!(subscription.stats().dead, 21);
}

#[tokio::test]
async fn without_an_answer_no_other_message_waits_for_long() {
    let bench = Bench::start().await;
    let bad = Seen::new();
    let subscription = rejecting(&bench, &bad).await;
    // Somebody who listens and says nothing, in place of the stream.
    let client = bench.connector.client().unwrap();
    let silent = client.subscribe("dead.billing").await.unwrap();
    bench.api("STREAM.DELETE.DEAD_LETTERS", Value::Null).await;
    bench.publish("orders.new", texts()).await;
    eventually(PATIENCE, || async { subscription.stats().handled == 50 }).await;
    eventually(PATIENCE, || async { bad.len() == 22 }).await;
    assert_eq!(subscription.stats().dead, 0);
    drop(silent);
    eventually(PATIENCE, || async { subscription.stats().dead == 21 }).await;
    all_buried(&bench, &bad).await;
}

#[tokio::test]
async fn the_stream_for_them_is_found_or_made_or_told_missing() {
    let bench = Bench::start().await;
    let handler = |_: Message| async { Outcome::reject("no") };
    let subscribe =
        |pubsub: &PubSub, name: &str| pubsub.subscribe("orders.>", handler).durable(name);

    bench.stream(StreamConfig::new("DEAD_LETTERS", ["elsewhere.>"])).await;
    let error = subscribe(&bench.pubsub, "billing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("dead_letters(topic)"), "{error}");
    assert_eq!(bench.consumer("billing").await["error"]["code"], 404, "no consumer was made");

    bench.stream(StreamConfig::new("FAILED", ["failed.>"])).await;
    let subscription = subscribe(&bench.pubsub, "billing").dead_letters("failed.orders");
    let subscription = subscription.await.unwrap();
    bench.publish("orders.new", [1]).await;
    eventually(PATIENCE, || async { bench.stored("FAILED").await == 1 }).await;
    subscription.unsubscribe().await.unwrap();

    bench.stream(StreamConfig::new("APP", ["app.orders.>"])).await;
    let prefixed = bench.pubsub.with_prefix("app.");
    subscribe(&prefixed, "shop").await.unwrap();
    prefixed.publish("orders.new", &1).jetstream().await.unwrap();
    eventually(PATIENCE, || async { bench.stored("APP_DEAD_LETTERS").await == 1 }).await;
    let info = bench.api("STREAM.INFO.APP_DEAD_LETTERS", Value::Null).await;
    assert_eq!(info["config"]["subjects"], serde_json::json!(["app.dead.>"]));
}

#[tokio::test]
async fn without_them_only_a_reject_ends_a_message() {
    let bench = Bench::start().await;
    bench.publish("orders.new", ["reject", "fail"]).await;
    let handler = |msg: Message| async move {
        match msg.decode::<String>()?.as_str() {
            "reject" => Ok(Outcome::reject("no")),
            _ if msg.delivery().unwrap().deliveries() < 8 => Err(failed("not yet")),
            _ => Ok(Outcome::Ack),
        }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").backoff(QUICK);
    let subscription = call.without_dead_letters().await.unwrap();
    eventually(PATIENCE, || async { subscription.stats().handled == 1 }).await;
    bench.settled("billing").await;
    let stats = subscription.stats();
    assert_eq!((stats.retried, stats.rejected, stats.dead), (7, 1, 0));
    let info = bench.api("STREAM.INFO.DEAD_LETTERS", Value::Null).await;
    assert_eq!(info["error"]["code"], 404, "no stream was made");
}
