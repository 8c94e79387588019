//! One effect for each message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::kv::BucketConfig;
use nats_connector::layers::{Dedupe, Layer};
use nats_connector::pubsub::{Handler, HandlerResult, Message, Outcome, PubSub, with};
use nats_connector::{BoxError, Connector, ErrorKind};
use testkit::{Server, Version, eventually};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{Errors, FOREVER, LIMIT, connect, connectors, done, failure};

pub(crate) async fn publish(pubsub: &PubSub, id: &str, payload: &'static str) {
    let publish = pubsub.publish_bytes("t", payload).header("Nats-Msg-Id", id);
    publish.await.unwrap();
}

/// Counts what it handles.
pub(crate) async fn count(calls: Arc<AtomicU64>, _: Message) {
    calls.fetch_add(1, Ordering::SeqCst);
}

fn dedupe(connector: &Connector) -> Dedupe {
    Dedupe::new(connector.kv().bucket("done"), "bill")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_is_skipped_and_counted() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let (pubsub, dedupe) = (connector.pubsub(), dedupe(&connector));
        let calls = Arc::new(AtomicU64::new(0));
        let call = pubsub.subscribe("t", with(calls.clone(), count)).layer(dedupe.clone());
        let subscription = call.await.unwrap();
        for id in ["a", "b", "a", "a", "b", "c with space: é"] {
            publish(&pubsub, id, "x").await;
        }
        for _ in 0..2 {
            pubsub.publish_bytes("t", "without an id").await.unwrap();
            publish(&pubsub, "", "x").await;
        }
        done(&subscription, 10).await;
        assert_eq!(subscription.stats().handled, 10);
        assert_eq!(calls.load(Ordering::SeqCst), 7);
        let stats = dedupe.stats();
        assert_eq!((stats.handled, stats.skipped, stats.busy, stats.unprotected), (3, 3, 0, 4));

        // Another handler has its own.
        let calls = Arc::new(AtomicU64::new(0));
        let other = Dedupe::new(connector.kv().bucket("done"), "mail");
        let call = pubsub.subscribe("t", with(calls.clone(), count)).layer(other);
        let other = call.await.unwrap();
        publish(&pubsub, "a", "x").await;
        done(&other, 1).await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_ones_own_comes_before_the_message_id() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let by_payload =
            |msg: &Message| (msg.payload() != "none").then(|| format!("{:?}", msg.payload()));
        let dedupe = dedupe(&connector).by(by_payload);
        let calls = Arc::new(AtomicU64::new(0));
        let call = pubsub.subscribe("t", with(calls.clone(), count)).layer(dedupe.clone());
        let subscription = call.await.unwrap();
        for (id, payload) in [("1", "x"), ("2", "x"), ("2", "y"), ("3", "none"), ("3", "none")] {
            publish(&pubsub, id, payload).await;
        }
        done(&subscription, 5).await;
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!(dedupe.stats().skipped, 2);
    }
}

/// A layer that drops what is inside it when it is told to.
struct Stopped(Arc<Notify>);

impl<H: Handler> Layer<H> for Stopped {
    fn layer(self, handler: H) -> impl Handler {
        move |message: Message| {
            let stop = self.0.clone();
            let handling = handler.call(message);
            async move {
                tokio::select! {
                    result = handling => result.into_outcome(),
                    () = stop.notified() => Err(failure("stopped")),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_succeed_is_handled_again() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let (pubsub, dedupe) = (connector.pubsub(), dedupe(&connector));
        let calls = Arc::new(AtomicU64::new(0));
        let obey = with(calls.clone(), |calls, msg: Message| async move {
            count(calls, msg.clone()).await;
            match &msg.payload()[..] {
                b"panic" => panic!("as told"),
                b"fail" => Err(failure("as told")),
                b"retry" => Ok(Outcome::retry()),
                b"reject" => Ok(Outcome::reject("no")),
                b"hang" => {
                    sleep(FOREVER).await;
                    Ok(Outcome::Ack)
                }
                _ => Ok::<_, BoxError>(Outcome::Ack),
            }
        });
        let call = pubsub.subscribe("t", obey).layer(dedupe.clone());
        let stop = Arc::new(Notify::new());
        let subscription = call.layer(Stopped(stop.clone())).await.unwrap();
        let payloads = ["fail", "retry", "reject", "panic", "hang"];
        for (n, payload) in (1..).zip(payloads) {
            publish(&pubsub, payload, payload).await;
            if payload == "hang" {
                eventually(LIMIT, || async { calls.load(Ordering::SeqCst) == n }).await;
                stop.notify_one();
            }
            done(&subscription, n).await;
        }
        let stats = subscription.stats();
        assert_eq!((stats.handled, stats.failed, stats.panicked), (0, 4, 1));
        // A panic and a dropped future give the claim back in the background, long before the lease ends.
        for payload in payloads {
            let before = calls.load(Ordering::SeqCst);
            eventually(LIMIT, || async {
                publish(&pubsub, payload, "fine").await;
                sleep(Duration::from_millis(20)).await;
                calls.load(Ordering::SeqCst) > before
            })
            .await;
        }
        publish(&pubsub, "last", "fine").await;
        eventually(LIMIT, || async { dedupe.stats().handled == 6 }).await;
        assert_eq!(calls.load(Ordering::SeqCst), 11);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_at_once_one_is_handled() {
    const COPIES: u64 = 50;
    let server = Server::builder().jetstream().start().await;
    let connectors = [connect(&server.url()).await, connect(&server.url()).await];
    let calls = Arc::new(AtomicU64::new(0));
    let slow = |calls, msg| async move {
        count(calls, msg).await;
        sleep(Duration::from_millis(300)).await;
    };
    let mut members = Vec::new();
    for connector in &connectors {
        let (pubsub, dedupe) = (connector.pubsub(), dedupe(connector));
        let call = pubsub.subscribe("t", with(calls.clone(), slow)).concurrency(64);
        members.push((call.layer(dedupe.clone()).await.unwrap(), dedupe));
    }
    // Every copy comes to both.
    for _ in 0..COPIES / 2 {
        publish(&connectors[0].pubsub(), "same", "x").await;
    }
    let mut total = [0; 3];
    for (member, dedupe) in &members {
        done(member, COPIES / 2).await;
        let stats = dedupe.stats();
        total[0] += stats.handled;
        total[1] += stats.busy + stats.skipped;
        total[2] += stats.unprotected;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(total, [1, COPIES - 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_the_handler_runs() {
    let (_server, [memory, real]) = connectors().await;
    tokio::join!(longer_than_the_lease(memory), longer_than_the_lease(real));
}

async fn longer_than_the_lease(connector: Connector) {
    let pubsub = connector.pubsub();
    let dedupe = dedupe(&connector).lease(Duration::from_secs(2));
    let calls = Arc::new(AtomicU64::new(0));
    let slow = |calls, msg| async move {
        count(calls, msg).await;
        sleep(Duration::from_secs(5)).await;
    };
    let call = pubsub.subscribe("t", with(calls.clone(), slow)).concurrency(8);
    let subscription = call.layer(dedupe.clone()).await.unwrap();
    publish(&pubsub, "same", "x").await;
    eventually(LIMIT, || async { calls.load(Ordering::SeqCst) == 1 }).await;
    let mut copies = 0;
    while dedupe.stats().handled == 0 {
        publish(&pubsub, "same", "x").await;
        copies += 1;
        done(&subscription, copies).await;
        sleep(Duration::from_millis(50)).await;
    }
    publish(&pubsub, "same", "x").await;
    done(&subscription, copies + 2).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let stats = dedupe.stats();
    assert!(stats.busy > 3 && stats.skipped > 0 && stats.handled == 1, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_lost_its_claim_is_stopped() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let (pubsub, kv) = (connector.pubsub(), connector.kv().bucket("done"));
        let dedupe = dedupe(&connector).lease(Duration::from_secs(1));
        let errors = Errors::default();
        let call = pubsub.subscribe("t", async |_: Message| sleep(FOREVER).await);
        let subscription = call.layer(dedupe).layer(errors.clone()).await.unwrap();
        publish(&pubsub, "same", "x").await;
        eventually(LIMIT, || async { kv.exists("bill/id/same").await.unwrap() }).await;
        kv.delete("bill/id/same").await.unwrap();
        done(&subscription, 1).await;
        let [error] = &errors.all()[..] else { panic!("{:?}", errors.all()) };
        assert!(error.contains("the claim was lost"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_kept_for_the_retention() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let dedupe = dedupe(&connector).retention(Duration::from_secs(2));
        let calls = Arc::new(AtomicU64::new(0));
        let call = pubsub.subscribe("t", with(calls.clone(), count)).layer(dedupe.clone());
        let _subscription = call.await.unwrap();
        let begun = Instant::now();
        publish(&pubsub, "same", "x").await;
        eventually(LIMIT, || async { dedupe.stats().handled == 1 }).await;
        eventually(LIMIT, || async {
            publish(&pubsub, "same", "x").await;
            sleep(Duration::from_millis(50)).await;
            calls.load(Ordering::SeqCst) > 1
        })
        .await;
        assert!(begun.elapsed() > Duration::from_millis(1900), "{:?}", begun.elapsed());
        assert!(dedupe.stats().skipped > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_is_refused_before_anything_is_subscribed() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let config = BucketConfig::new("plain").per_key_ttl(false);
        let Ok(plain) = connector.kv().create_bucket(config).await else { continue };
        let call = connector.pubsub().subscribe("t", async |_: Message| ());
        let error = call.layer(Dedupe::new(plain, "bill")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

        let call = connector.pubsub().subscribe("t", async |_: Message| ());
        let no_lease = dedupe(&connector).lease(Duration::ZERO);
        let error = call.layer(no_lease).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    if !testkit::require(Version::V2_10) {
        return;
    }
    let old = Server::builder().version(Version::V2_10).jetstream().start().await;
    let connector = connect(&old.url()).await;
    let call = connector.pubsub().subscribe("t", async |_: Message| ());
    let error = call.layer(dedupe(&connector)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_claim_is_left_alone() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let (pubsub, kv) = (connector.pubsub(), connector.kv().bucket("done"));
        kv.set("bill/id/same", "somebody's").await.unwrap();
        let (calls, errors) = (Arc::new(AtomicU64::new(0)), Errors::default());
        let call = pubsub.subscribe("t", with(calls.clone(), count)).layer(dedupe(&connector));
        let subscription = call.layer(errors.clone()).await.unwrap();
        publish(&pubsub, "same", "x").await;
        publish(&pubsub, &"long".repeat(400), "x").await;
        done(&subscription, 2).await;
        assert_eq!((subscription.stats().failed, calls.load(Ordering::SeqCst)), (2, 0));
        assert!(errors.all()[0].contains("no claim"), "{:?}", errors.all());
        let value = kv.get::<String>("bill/id/same").await.unwrap();
        assert_eq!(value.as_deref(), Some("somebody's"));
    }
}
