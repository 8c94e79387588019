//! Who gets a message: groups, wildcards, overlaps, order, prefixes, and the end of a stream.

use nats_connector::pubsub::{Message, PubSub, Subscription, with};
use testkit::{Server, eventually};

use crate::{PATIENCE, Seen, connect, connect_with, next, next_public};

async fn record(seen: Seen<u32>, message: Message) -> nats_connector::Result<()> {
    seen.push(message.decode()?);
    Ok(())
}

struct Member {
    seen: Seen<u32>,
    subscription: Subscription,
}

async fn member(pubsub: &PubSub, topic: &'static str, queue: Option<&str>) -> Member {
    let seen = Seen::new();
    let call = pubsub.subscribe(topic, with(seen.clone(), record));
    let subscription = match queue {
        Some(queue) => call.queue(queue).await,
        None => call.await,
    };
    Member { seen, subscription: subscription.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_wildcards_and_duplicates_each_get_exactly_what_nats_promises() {
    const MESSAGES: u32 = 500;
    let server = Server::builder().start().await;
    let (one, other) = (connect(&server).await, connect(&server).await);

    // Two groups whose members sit on two connections, and beside them plain subscribers: twice the
    // same topic, and two patterns that overlap it.
    let mut groups = Vec::new();
    for queue in ["workers", "auditors"] {
        let mut members = Vec::new();
        for connector in [&one, &one, &other] {
            members.push(member(&connector.pubsub(), "orders.created", Some(queue)).await);
        }
        groups.push(members);
    }
    let mut plain = Vec::new();
    for topic in ["orders.created", "orders.created", "orders.*", "orders.>", "*.created"] {
        plain.push(member(&other.pubsub(), topic, None).await);
    }
    let elsewhere = member(&other.pubsub(), "orders.*.created", None).await;

    let pubsub = one.pubsub();
    for n in 0..MESSAGES {
        pubsub.publish("orders.created", &n).await.unwrap();
    }
    pubsub.flush().await.unwrap();

    let expected: Vec<u32> = (0..MESSAGES).collect();
    for members in groups {
        let mut together = Vec::new();
        for member in members {
            member.subscription.drain().await.unwrap();
            let seen = member.seen.all();
            assert!(!seen.is_empty(), "a member of a group was left out");
            assert!(seen.is_sorted(), "{seen:?}");
            assert_eq!(member.subscription.stats().handled, seen.len() as u64);
            together.extend(seen);
        }
        together.sort_unstable();
        assert_eq!(together, expected);
    }
    for member in plain {
        member.subscription.drain().await.unwrap();
        assert_eq!(member.seen.all(), expected, "{}", member.subscription.topic());
    }
    elsewhere.subscription.drain().await.unwrap();
    assert!(elsewhere.seen.all().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_arrive_in_order_at_a_handler_and_in_a_stream() {
    let server = Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    let handler = member(&pubsub, "numbers", None).await;
    let mut stream = pubsub.messages("numbers").await.unwrap();
    for n in 0..1_000_u32 {
        pubsub.publish("numbers", &n).await.unwrap();
    }
    for n in 0..1_000_u32 {
        assert_eq!(next(&mut stream).await.decode::<u32>().unwrap(), n);
    }
    assert_eq!(handler.seen.wait_for(1_000).await, (0..1_000).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_put_before_topics_and_taken_off_again() {
    let server = Server::builder().start().await;
    let bare = connect(&server).await.pubsub();
    let connector = connect_with(&server, &[("NATS.TOPIC_PREFIX", "shop.")]).await;
    let shop = connector.pubsub();
    let mut all = bare.messages(">").await.unwrap();
    let mut own = shop.messages("orders.*").await.unwrap();
    let mut full = shop.messages("orders.*").ignore_prefix().await.unwrap();

    shop.publish("orders.new", "inside").await.unwrap();
    let message = next(&mut own).await;
    assert_eq!((message.topic(), message.subject().as_str()), ("orders.new", "shop.orders.new"));
    assert_eq!(next_public(&mut all).await.topic(), "shop.orders.new");

    // What was received can be published to again, with the handle that came with it.
    message.pubsub().publish(message.topic().to_owned(), "again").await.unwrap();
    assert_eq!(next(&mut own).await.decode::<String>().unwrap(), "again");
    assert_eq!(next_public(&mut all).await.topic(), "shop.orders.new");

    shop.publish("orders.old", "outside").ignore_prefix().await.unwrap();
    let message = next(&mut full).await;
    assert_eq!((message.topic(), message.subject().as_str()), ("orders.old", "orders.old"));
    assert_eq!(next_public(&mut all).await.topic(), "orders.old");

    // A request is prefixed, the reply subject is not; so its answer arrives.
    let answer = |message: Message| async move { message.respond(message.topic()).await };
    shop.subscribe("ask", answer).await.unwrap();
    bare.subscribe("raw.ask", answer).await.unwrap();
    let answered = shop.request("ask", "?").await.unwrap();
    assert_eq!(answered.decode::<String>().unwrap(), "ask");
    let answered = shop.request("raw.ask", "?").ignore_prefix().await.unwrap();
    assert_eq!(answered.decode::<String>().unwrap(), "raw.ask");

    let nested = shop.with_prefix("shop.eu.");
    nested.publish("orders.new", "x").await.unwrap();
    let seen = async {
        loop {
            let message = next_public(&mut all).await;
            if message.topic().ends_with("orders.new") {
                break message.topic().to_owned();
            }
        }
    };
    assert_eq!(seen.await, "shop.eu.orders.new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_and_an_unsubscribed_handler_leave_the_server() {
    let server = Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    let subscriptions = async || server.subsz().await["num_subscriptions"].as_u64().unwrap();
    pubsub.flush().await.unwrap();
    let before = subscriptions().await;

    let mut stream = pubsub.messages("a.*").await.unwrap();
    let handler = member(&pubsub, "b", None).await;
    let drained = member(&pubsub, "c", None).await;
    let kept = member(&pubsub, "d", None).await;
    assert_eq!(subscriptions().await, before + 4);
    pubsub.publish("a.b", "1").await.unwrap();
    assert_eq!(next(&mut stream).await.topic(), "a.b");

    drop(stream);
    handler.subscription.unsubscribe().await.unwrap();
    drained.subscription.drain().await.unwrap();
    // Dropping the handle of a subscription leaves it running.
    drop(kept.subscription);
    eventually(PATIENCE, || async { subscriptions().await == before + 1 }).await;
    pubsub.publish("d", &7).await.unwrap();
    assert_eq!(kept.seen.wait_for(1).await, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_to_everything_disturbs_no_round_trip() {
    let server = Server::builder().start().await;
    let monitor = connect(&server).await.pubsub();
    let mut everything = monitor.messages(">").await.unwrap();
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    let member = member(&pubsub, "a", Some("workers")).await;
    pubsub.publish("a", &1).await.unwrap();
    pubsub.flush().await.unwrap();
    assert_eq!(next_public(&mut everything).await.topic(), "a");
    assert!(connector.health().await.is_ready());
    member.subscription.drain().await.unwrap();
    assert_eq!(member.seen.all(), [1]);
    assert!(connector.drain().await.is_clean());
}
