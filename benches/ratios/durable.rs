//! Consuming with an acknowledgement for each message beside the raw client's pull consumer, which
//! is tried with several batch sizes: the lowest ratio counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream;
use bytes::Bytes;
use futures::StreamExt;
use nats_connector::pubsub::{Message, with};
use tokio::sync::Notify;

use super::{Sides, compare, wanted};

/// So many that joining and leaving, which ours does with care, is no part of the figure.
const N: usize = 400_000;
const STREAM: &str = "BENCH_DURABLE";
const SUBJECT: &str = "durable.bench";

/// What the handler of a run tells.
#[derive(Default)]
struct Run {
    seen: AtomicUsize,
    all: Notify,
}

/// A stream of messages of 128 B, read from its beginning by a new consumer each time.
pub(super) async fn consume(sides: &Sides) {
    let name = |batch| format!("durable with ack 128 B (raw {batch})");
    let batches = [200, 500, 2_000];
    if !batches.iter().any(|batch| wanted(&name(*batch))) {
        return;
    }
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        ..Default::default()
    };
    let stream = sides.raw_js.create_stream(config).await.unwrap();
    fill(sides).await;
    let runs = Arc::new(AtomicU64::new(0));
    for batch in batches {
        compare(
            name(batch),
            || {
                let (sides, stream) = (sides.clone(), stream.clone());
                let durable = format!("raw-{}", runs.fetch_add(1, Ordering::Relaxed));
                async move {
                    let config = pull::Config {
                        durable_name: Some(durable.clone()),
                        max_ack_pending: 10_000,
                        ..Default::default()
                    };
                    let consumer = stream.create_consumer(config).await.unwrap();
                    let messages = consumer.stream().max_messages_per_batch(batch).messages();
                    let mut messages = messages.await.unwrap();
                    for _ in 0..N {
                        let message = messages.next().await.unwrap().unwrap();
                        std::hint::black_box(&message.payload);
                        message.ack().await.unwrap();
                    }
                    Sides::settle(&sides.raw).await;
                    drop(messages);
                    stream.delete_consumer(&durable).await.unwrap();
                }
            },
            || {
                let (sides, stream) = (sides.clone(), stream.clone());
                let durable = format!("ours-{}", runs.fetch_add(1, Ordering::Relaxed));
                async move {
                    let run = Arc::new(Run::default());
                    let count = |run: Arc<Run>, message: Message| async move {
                        std::hint::black_box(message.payload());
                        if run.seen.fetch_add(1, Ordering::Relaxed) + 1 == N {
                            run.all.notify_one();
                        }
                    };
                    let subscribe = sides.ours.subscribe(SUBJECT, with(run.clone(), count));
                    let subscribe =
                        subscribe.durable(durable.clone()).stream(STREAM).without_dead_letters();
                    let subscription = subscribe.await.unwrap();
                    run.all.notified().await;
                    Sides::settle(&sides.connector.client().unwrap()).await;
                    subscription.drain().await.unwrap();
                    stream.delete_consumer(&durable).await.unwrap();
                }
            },
        )
        .await;
    }
}

async fn fill(sides: &Sides) {
    let payload = Bytes::from(vec![b'x'; 128]);
    let mut acks = Vec::new();
    for _ in 0..N {
        acks.push(sides.raw_js.publish(SUBJECT, payload.clone()).await.unwrap());
        if acks.len() == 1_000 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
}
