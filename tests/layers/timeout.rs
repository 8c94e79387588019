//! A limit on handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nats_connector::layers::Timeout;
use nats_connector::pubsub::{Message, with};
use tokio::time::sleep;

use super::{Errors, FOREVER, connectors, done};

/// Tells that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_too_long_is_dropped_and_its_message_fails() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (dropped, errors) = (Arc::new(AtomicBool::new(false)), Errors::default());
        let handler = with(dropped.clone(), |dropped, msg: Message| async move {
            if msg.payload() == "slow" {
                let _dropped = Dropped(dropped);
                sleep(FOREVER).await;
            }
        });
        let limit = Duration::from_millis(50);
        let call = pubsub.subscribe("t", handler).layer(Timeout::new(limit)).layer(errors.clone());
        let subscription = call.await.unwrap();
        for payload in ["quick", "slow", "quick"] {
            pubsub.publish_bytes("t", payload).await.unwrap();
        }
        done(&subscription, 3).await;
        let stats = subscription.stats();
        assert_eq!((stats.handled, stats.failed, stats.panicked), (2, 1, 0));
        assert!(dropped.load(Ordering::SeqCst));
        let [error] = &errors.all()[..] else { panic!("{:?}", errors.all()) };
        assert!(error.contains("limit of 50ms"), "{error}");
    }
}
