//! Layers around the handlers of durable subscriptions.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::layers::{Dedupe, Layer, Retry, Timeout};
use nats_connector::pubsub::{Handler, HandlerResult, Message, with};
use nats_connector::streams::StreamConfig;
use nats_connector::{Backoff, BoxError, Connector};
use testkit::{Program, Proxy, Server, eventually};
use tokio::time::sleep;

use super::dedupe::count;
use super::{FOREVER, LIMIT, connect, connectors};

/// Makes this program a member when it runs again as a child.
const MEMBER: &str = "LAYERS_DURABLE_MEMBER";
const ACK_WAIT: Duration = Duration::from_secs(2);
/// The lease of members that are killed, long enough for a busy machine to renew it.
const LEASE: Duration = Duration::from_secs(3);

/// A stream with these messages; with an id where there is one.
async fn stored(connector: &Connector, messages: &[(&'static str, Option<String>)]) {
    let pubsub = connector.pubsub();
    pubsub.stream(StreamConfig::new("ORDERS", ["orders"])).await.unwrap();
    for (payload, id) in messages {
        let publish = pubsub.publish_bytes("orders", *payload).jetstream();
        match id {
            Some(id) => publish.message_id(id).await.unwrap(),
            None => publish.await.unwrap(),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_took_too_long_gets_its_message_again() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        stored(&connector, &[("slow at first", None)]).await;
        let handler = async |msg: Message| {
            if msg.delivery().unwrap().deliveries() == 1 {
                sleep(FOREVER).await;
            }
        };
        let call = connector.pubsub().subscribe("orders", handler);
        let call = call.layer(Timeout::new(Duration::from_millis(100))).durable("bill");
        let subscription = call.backoff(Backoff::fixed(Duration::from_millis(10))).await.unwrap();
        eventually(LIMIT, || async { subscription.stats().handled == 1 }).await;
        let stats = subscription.stats();
        assert_eq!((stats.failed, stats.retried, stats.let_go), (1, 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_in_the_process_is_not_delivered_again() {
    let (_server, [memory, real]) = connectors().await;
    tokio::join!(longer_than_the_ack_wait(memory), longer_than_the_ack_wait(real));
}

async fn longer_than_the_ack_wait(connector: Connector) {
    stored(&connector, &[("later", None), ("no number", None)]).await;
    let calls = Arc::new(AtomicU64::new(0));
    let handler = with(calls.clone(), |calls, msg: Message| async move {
        let before = calls.fetch_add(1, Ordering::SeqCst);
        if msg.payload() == "no number" {
            // Hides what went wrong.
            return msg.decode::<u32>().map(drop).map_err(|_| BoxError::from("wrong"));
        }
        if before < 3 { Err(BoxError::from("not yet")) } else { Ok(()) }
    });
    let retry = Retry::times(9).backoff(Backoff::fixed(Duration::from_millis(900)));
    let call = connector.pubsub().subscribe("orders", handler).layer(retry).durable("bill");
    let subscription = call.ack_wait(ACK_WAIT).await.unwrap();
    eventually(LIMIT, || async { subscription.stats().dead == 1 }).await;
    let stats = subscription.stats();
    assert_eq!((stats.handled, stats.rejected, stats.redelivered), (1, 1, 0));
    assert_eq!(calls.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_at_once_one_is_handled() {
    const COPIES: u64 = 50;
    let server = Server::builder().jetstream().start().await;
    let connectors = [connect(&server.url()).await, connect(&server.url()).await];
    stored(&connectors[0], &vec![("same", None); 50]).await;
    let calls = Arc::new(AtomicU64::new(0));
    let slow = |calls, msg| async move {
        count(calls, msg).await;
        sleep(Duration::from_millis(300)).await;
    };
    let mut members = Vec::new();
    for connector in &connectors {
        let dedupe = Dedupe::new(connector.kv().bucket("done"), "bill")
            .lease(Duration::from_secs(3))
            .by(|msg| Some(String::from_utf8_lossy(msg.payload()).into_owned()));
        let call = connector.pubsub().subscribe("orders", with(calls.clone(), slow));
        let call = call.layer(dedupe.clone()).durable("bill").concurrency(32).batch(32);
        members.push((call.await.unwrap(), dedupe));
    }
    let handled = || members.iter().map(|(member, _)| member.stats().handled).sum::<u64>();
    eventually(LIMIT, || async { handled() == COPIES }).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let total = |count: fn(&Dedupe) -> u64| members.iter().map(|(_, own)| count(own)).sum::<u64>();
    assert_eq!(total(|dedupe| dedupe.stats().handled), 1);
    assert_eq!(total(|dedupe| dedupe.stats().skipped), COPIES - 1);
    assert!(total(|dedupe| dedupe.stats().busy) > 0);
}

/// A layer that keeps the result of some messages to itself, so that they are never settled.
struct Unsettled;

impl<H: Handler> Layer<H> for Unsettled {
    fn layer(self, handler: H) -> impl Handler {
        move |message: Message| {
            let keep = message.payload() == "marked";
            let handling = handler.call(message);
            async move {
                let result = handling.await.into_outcome();
                if keep {
                    sleep(FOREVER).await;
                }
                result
            }
        }
    }
}

/// The child's part: handles until it is killed, and hangs before or after the mark of some.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn member() {
    let Ok(server) = std::env::var(MEMBER) else { return };
    let connector = connect(&server).await;
    let dedupe = Dedupe::new(connector.kv().bucket("done"), "bill").lease(LEASE);
    let begun = Arc::new(AtomicU64::new(0));
    let handler = with(begun.clone(), |begun, msg: Message| async move {
        if msg.payload() == "begun" {
            count(begun, msg).await;
            sleep(FOREVER).await;
        }
    });
    let call = connector.pubsub().subscribe("orders", handler).layer(dedupe.clone());
    let call = call.layer(Unsettled).durable("bill").concurrency(16).batch(32).ack_wait(LEASE * 2);
    let subscription = call.await.unwrap();
    eventually(LIMIT, || async {
        begun.load(Ordering::SeqCst) == 4
            && dedupe.stats().handled == 14
            && subscription.stats().handled == 10
    })
    .await;
    println!("at work");
    // Until the parent ends it.
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_what_was_marked_is_skipped_and_the_rest_is_handled() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server.url()).await;
    let mut messages = Vec::new();
    for n in 0..18 {
        let payload = match n {
            0..4 => "marked",
            4..8 => "begun",
            _ => "fine",
        };
        // By message id, and by the place in the stream.
        messages.push((payload, (n % 2 == 0).then(|| format!("id-{n}"))));
    }
    stored(&connector, &messages).await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["durable::member", "--exact", "--nocapture"]).env(MEMBER, server.url());
    let mut child = Program::start(&mut command);
    child.wait_for("at work", LIMIT);
    child.signal("KILL");
    assert!(!child.wait(LIMIT).success());

    let dedupe = Dedupe::new(connector.kv().bucket("done"), "bill").lease(LEASE);
    let (begun, others) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let state = (begun.clone(), others.clone());
    let handler = with(state, |(begun, others), msg: Message| async move {
        match &msg.payload()[..] {
            b"begun" => count(begun, msg).await,
            _ => others.store(true, Ordering::SeqCst),
        }
    });
    let call = connector.pubsub().subscribe("orders", handler).layer(dedupe.clone());
    let subscription = call.durable("bill").ack_wait(LEASE * 2).await.unwrap();
    eventually(LIMIT, || async { subscription.stats().handled == 8 }).await;
    assert_eq!(begun.load(Ordering::SeqCst), 4);
    assert!(!others.load(Ordering::SeqCst), "handled twice");
    let stats = dedupe.stats();
    assert_eq!((stats.handled, stats.skipped, stats.unprotected), (4, 4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_bucket_puts_messages_off() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let mut store = Server::builder().jetstream().start().await;
        let proxy = Proxy::start(store.address());
        let bucket = connect(&proxy.url()).await.kv().bucket("done");
        bucket.set("is there", &()).await.unwrap();
        store.kill().await;
        proxy.refuse();
        proxy.cut();

        stored(&connector, &[("a", None), ("b", None), ("c", Some("id".to_owned()))]).await;
        // A claim that a lost request leaves behind ends soon.
        let bucket = bucket.with_timeout(Duration::from_secs(1));
        let lease = Duration::from_secs(1);
        let bill = Dedupe::new(bucket.clone(), "bill").lease(lease);
        let mail = Dedupe::new(bucket, "mail").lease(lease);
        let (billed, mailed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let quick = Backoff::fixed(Duration::from_millis(50));
        let call = connector.pubsub().subscribe("orders", with(billed.clone(), count));
        let call = call.layer(bill.clone()).durable("bill").unlimited_deliveries();
        let bills = call.backoff(quick.clone()).await.unwrap();
        // Holds its messages rather than having them delivered again.
        let call = connector.pubsub().subscribe("orders", with(mailed.clone(), count));
        let call = call.layer(mail.clone()).layer(Retry::times(1000).backoff(quick));
        let mails = call.durable("mail").unlimited_deliveries().await.unwrap();
        eventually(LIMIT, || async { bills.stats().failed > 5 }).await;
        assert_eq!((billed.load(Ordering::SeqCst), mailed.load(Ordering::SeqCst)), (0, 0));
        assert_eq!(mails.stats().failed, 0);

        store.restart().await;
        proxy.resume();
        for (subscription, calls, dedupe) in [(bills, billed, bill), (mails, mailed, mail)] {
            eventually(LIMIT, || async { subscription.stats().handled == 3 }).await;
            assert_eq!((calls.load(Ordering::SeqCst), dedupe.stats().handled), (3, 3));
        }
    }
}
