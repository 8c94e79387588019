//! Several layers: the one added last is the outermost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::layers::{Dedupe, Retry, Timeout, Traced};
use nats_connector::pubsub::{Message, with};
use nats_connector::{Backoff, Connector};
use tokio::time::sleep;

use super::{Errors, FOREVER, connectors, done, failure};

const SHORT: Duration = Duration::from_millis(50);

/// Never done.
async fn hang(calls: Arc<AtomicU64>, _: Message) {
    calls.fetch_add(1, Ordering::SeqCst);
    sleep(FOREVER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_has_the_limit_or_all_together() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let retry = Retry::times(3).backoff(Backoff::list([]));

        let calls = Arc::new(AtomicU64::new(0));
        let call = pubsub.subscribe("each", with(calls.clone(), hang));
        let each = call.layer(Timeout::new(SHORT)).layer(retry.clone()).await.unwrap();
        pubsub.publish("each", &()).await.unwrap();
        done(&each, 1).await;
        assert_eq!(calls.load(Ordering::SeqCst), 3);

        let calls = Arc::new(AtomicU64::new(0));
        let call = pubsub.subscribe("all", with(calls.clone(), hang));
        let all = call.layer(retry).layer(Timeout::new(SHORT)).await.unwrap();
        pubsub.publish("all", &()).await.unwrap();
        done(&all, 1).await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!((each.stats().failed, all.stats().failed), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_layer_sees_what_those_inside_it_give() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (inner, outer) = (Errors::default(), Errors::default());
        let retry = Retry::times(3).backoff(Backoff::list([]));
        let call = pubsub.subscribe("t", async |_: Message| Err::<(), _>(failure("no")));
        let call = call.layer(inner.clone()).layer(retry).layer(outer.clone());
        let subscription = call.await.unwrap();
        pubsub.publish("t", &()).await.unwrap();
        done(&subscription, 1).await;
        assert_eq!((inner.all().len(), outer.all().len()), (3, 1));
    }
}

/// All layers around a handler that does as its payload says.
async fn all_layers(connector: &Connector, dedupe: Dedupe) -> nats_connector::pubsub::Subscription {
    let obey = |msg: Message| async move {
        match &msg.payload()[..] {
            b"panic" => panic!("as told"),
            b"fail" => Err(failure("as told")),
            _ => Ok(()),
        }
    };
    let call = connector.pubsub().subscribe("t", obey).concurrency(4);
    let call = call.layer(Timeout::new(FOREVER)).layer(Retry::times(2).backoff(Backoff::list([])));
    call.layer(dedupe).layer(Traced::new("all")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn panics_pass_through_all_layers_and_the_subscription_lives() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let dedupe = Dedupe::new(connector.kv().bucket("done"), "all");
        let subscription = all_layers(&connector, dedupe.clone()).await;
        let pubsub = connector.pubsub();
        let payloads = ["fine", "panic", "fail", "panic", "fine"];
        for (n, payload) in payloads.into_iter().enumerate() {
            let publish = pubsub.publish_bytes("t", payload);
            publish.header("Nats-Msg-Id", &n.to_string()).await.unwrap();
        }
        done(&subscription, payloads.len() as u64).await;
        let stats = subscription.stats();
        assert_eq!((stats.handled, stats.failed, stats.panicked), (2, 1, 2));
        assert_eq!(dedupe.stats().handled, 2);
    }
}
