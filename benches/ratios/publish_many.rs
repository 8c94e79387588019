//! Many messages, each acknowledged, beside a window of 1,000 acknowledgements by hand.

use std::collections::VecDeque;

use async_nats::Subject;
use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nats_connector::pubsub::{PublishReport, Way};

use crate::{Sides, compare, wanted};

const MESSAGES: usize = 50_000;
const WINDOW: usize = 1_000;
/// The most messages of an atomic batch.
const BATCH: usize = 1_000;

const PLAIN: &str = "many.plain";
const BATCHED: &str = "many.batched";

pub(crate) async fn all(sides: &Sides) {
    if !wanted_any() {
        return;
    }
    for subject in [PLAIN, BATCHED] {
        let batched = subject == BATCHED;
        let config = Config {
            name: subject.replace('.', "_"),
            subjects: vec![subject.to_owned()],
            max_messages: 500_000,
            allow_batch_publish: batched,
            allow_atomic_publish: batched,
            ..Default::default()
        };
        sides.raw_js.create_stream(config).await.unwrap();
    }
    let payload = Bytes::from(vec![b'x'; 128]);
    for subject in [PLAIN, BATCHED] {
        let way = if subject == PLAIN { "window" } else { "fast ingest" };
        compare(
            format!("publish_many 128 B {way}"),
            || by_hand(sides.raw_js.clone(), subject, payload.clone()),
            || ours(sides, subject, payload.clone(), false),
        )
        .await;
        compare(
            format!("publish_many 128 B {way}, unordered"),
            || by_hand_unordered(sides.raw_js.clone(), subject, payload.clone()),
            || ours(sides, subject, payload.clone(), false),
        )
        .await;
        compare(
            format!("publish_many 128 B {way}, with ids"),
            || by_hand_with_ids(sides.raw_js.clone(), subject, payload.clone()),
            || ours(sides, subject, payload.clone(), true),
        )
        .await;
    }
    compare(
        "publish_many 128 B atomic batches".to_owned(),
        || by_hand(sides.raw_js.clone(), BATCHED, payload.clone()),
        || {
            let (pubsub, payload) = (sides.ours.clone(), payload.clone());
            async move {
                for _ in 0..MESSAGES / BATCH {
                    let (handle, payload) = (pubsub.clone(), payload.clone());
                    let items =
                        (0..BATCH).map(move |_| handle.publish_bytes(BATCHED, payload.clone()));
                    let report = pubsub.publish_many(items).all_or_nothing().await.unwrap();
                    assert_eq!((report.stored, report.way), (BATCH as u64, Way::Atomic));
                }
            }
        },
    )
    .await;
}

/// Whether one of these is asked for, so that its streams are.
fn wanted_any() -> bool {
    ["window", "fast ingest", "atomic batches"].iter().any(|way| {
        ["", ", unordered", ", with ids"]
            .iter()
            .any(|more| wanted(&format!("publish_many 128 B {way}{more}")))
    })
}

/// Acknowledgements come in order, so the oldest one is awaited: no set of futures to keep.
async fn by_hand(context: jetstream::Context, subject: &'static str, payload: Bytes) {
    let mut acks = VecDeque::with_capacity(WINDOW);
    for _ in 0..MESSAGES {
        if acks.len() == WINDOW {
            let oldest: jetstream::context::PublishAckFuture = acks.pop_front().unwrap();
            oldest.await.unwrap();
        }
        acks.push_back(context.publish(subject, payload.clone()).await.unwrap());
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

async fn by_hand_unordered(context: jetstream::Context, subject: &'static str, payload: Bytes) {
    let mut acks = FuturesUnordered::new();
    for _ in 0..MESSAGES {
        if acks.len() == WINDOW {
            let acked: Result<_, jetstream::context::PublishError> = acks.next().await.unwrap();
            acked.unwrap();
        }
        let ack = context.publish(subject, payload.clone()).await.unwrap();
        acks.push(ack.into_future());
    }
    while let Some(acked) = acks.next().await {
        acked.unwrap();
    }
}

async fn by_hand_with_ids(context: jetstream::Context, subject: &'static str, payload: Bytes) {
    let run = rand_id();
    let mut acks = VecDeque::with_capacity(WINDOW);
    for n in 0..MESSAGES {
        if acks.len() == WINDOW {
            let oldest: jetstream::context::PublishAckFuture = acks.pop_front().unwrap();
            oldest.await.unwrap();
        }
        let message = jetstream::message::PublishMessage::build()
            .payload(payload.clone())
            .message_id(format!("{run}-{n}"));
        acks.push_back(context.send_publish(subject, message).await.unwrap());
    }
    for ack in acks {
        ack.await.unwrap();
    }
}

/// Other ids in every run: else all but the first store nothing.
fn rand_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("run{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn ours(
    sides: &Sides,
    subject: &'static str,
    payload: Bytes,
    ids: bool,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    let pubsub = sides.ours.clone();
    let handle = pubsub.clone();
    async move {
        let topic = Subject::from_static(subject);
        let items =
            (0..MESSAGES).map(move |_| handle.publish_bytes(topic.clone(), payload.clone()));
        let call = pubsub.publish_many(items);
        let call = if ids { call.message_ids(rand_id()) } else { call };
        let report: PublishReport = call.await.unwrap().into_result().unwrap();
        let way = if subject == PLAIN { Way::Window } else { Way::FastIngest };
        assert_eq!((report.stored, report.way), (MESSAGES as u64, way));
    }
}
