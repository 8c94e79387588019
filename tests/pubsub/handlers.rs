//! How handlers run: failures, parallel work, and messages that come too fast.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nats_connector::BoxError;
use nats_connector::pubsub::{Message, with};
use testkit::{Server, eventually};
use tokio::sync::{Barrier, Semaphore};

use crate::{PATIENCE, Seen, connect, connect_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_an_error_is_counted_and_the_next_message_is_handled() {
    let server = Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    for concurrency in [1, 3] {
        let seen = Seen::new();
        let handler = with(seen.clone(), |seen: Seen<String>, message: Message| async move {
            let what: String = message.decode()?;
            assert_ne!(what, "panic", "on purpose");
            if what == "error" {
                return Err("on purpose".into());
            }
            seen.push(what);
            Ok::<(), BoxError>(())
        });
        let subscription =
            pubsub.subscribe("work", handler).concurrency(concurrency).await.unwrap();
        for what in ["panic", "one", "error", "two", "panic", "three"] {
            pubsub.publish("work", what).await.unwrap();
        }
        pubsub.publish("work", &7).await.unwrap();
        pubsub.flush().await.unwrap();
        subscription.drain().await.unwrap();

        let mut handled = seen.all();
        if concurrency > 1 {
            handled.sort();
            assert_eq!(handled, ["one", "three", "two"]);
        } else {
            assert_eq!(handled, ["one", "two", "three"]);
        }
        let stats = subscription.stats();
        assert_eq!((stats.received, stats.handled), (7, 3), "{stats:?}");
        assert_eq!((stats.failed, stats.panicked), (2, 2), "{stats:?}");
    }
}

/// How many handlers run, and how many ran at once at most.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    async fn during(&self, work: impl Future<Output = ()>) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        work.await;
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_real_and_bounded() {
    const WIDTH: usize = 4;
    let server = Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    let (gauge, barrier) = (Arc::new(Gauge::default()), Arc::new(Barrier::new(WIDTH)));
    // Handlers go on only together, so fewer than four at once would never end.
    let together = with((gauge.clone(), barrier), |(gauge, barrier), _: Message| async move {
        gauge
            .during(async {
                barrier.wait().await;
            })
            .await;
    });
    let subscription = pubsub.subscribe("together", together).concurrency(WIDTH).await.unwrap();
    for n in 0..WIDTH * 10 {
        pubsub.publish("together", &n).await.unwrap();
    }
    eventually(PATIENCE, || async { subscription.stats().handled == 40 }).await;
    assert_eq!(gauge.most.load(Ordering::SeqCst), WIDTH);

    let gauge = Arc::new(Gauge::default());
    let alone = with(gauge.clone(), |gauge, _: Message| async move {
        gauge.during(tokio::task::yield_now()).await;
    });
    let subscription = pubsub.subscribe("alone", alone).await.unwrap();
    for n in 0..100 {
        pubsub.publish("alone", &n).await.unwrap();
    }
    eventually(PATIENCE, || async { subscription.stats().handled == 100 }).await;
    assert_eq!(gauge.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_consumer_loses_is_counted() {
    const MESSAGES: u64 = 100;
    let server = Server::builder().start().await;
    let connector = connect_with(&server, &[("NATS.SUBSCRIPTION_CAPACITY", "16")]).await;
    let pubsub = connector.pubsub();
    let gate = Arc::new(Semaphore::new(0));
    let slow = with(gate.clone(), |gate: Arc<Semaphore>, _: Message| async move {
        gate.acquire().await.map(drop)
    });
    let subscription = pubsub.subscribe("flood", slow).await.unwrap();
    for n in 0..MESSAGES {
        pubsub.publish("flood", &n).await.unwrap();
    }
    pubsub.flush().await.unwrap();
    eventually(PATIENCE, || async { connector.health().await.dropped_messages > 0 }).await;

    gate.close();
    subscription.drain().await.unwrap();
    let received = subscription.stats().received;
    assert!((16..MESSAGES).contains(&received), "{received}");
    eventually(PATIENCE, || async {
        connector.health().await.dropped_messages == MESSAGES - received
    })
    .await;
}
