//! Each operation beside raw async-nats doing the same work: same topic building, same encoding,
//! same server, own connections, inside spawned tasks, interleaved. Prints the ratio of the rates
//! (above 1: faster than the raw client) as median and quartiles; asserts nothing.
//!
//! `cargo xtask bench [name]` runs those whose name contains `name`.
#![allow(clippy::print_stdout, missing_docs)]

mod durable;
mod list;
mod many;
mod objects;
mod publish_many;
mod rpc;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use bytes::Bytes;
use futures::StreamExt;
use nats_connector::pubsub::{Message, PubSub, with};
use nats_connector::{Connector, Settings};
use serde::{Deserialize, Serialize};
use testkit::Server;
use tokio::sync::Notify;

/// Pairs of runs for each ratio.
const RUNS: usize = 15;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    id: u64,
    pad: String,
}

impl Order {
    /// About `size` bytes as JSON.
    fn of(size: usize) -> Self {
        let empty = serde_json::to_vec(&Order { id: 1, pad: String::new() }).unwrap().len();
        Order { id: 1, pad: "x".repeat(size.saturating_sub(empty)) }
    }

    fn raw(&self) -> Bytes {
        serde_json::to_vec(self).unwrap().into()
    }

    fn decode(payload: &[u8]) {
        let order: Order = serde_json::from_slice(payload).unwrap();
        std::hint::black_box(order);
    }
}

/// The two sides, each with its own connection.
#[derive(Clone)]
struct Sides {
    raw: async_nats::Client,
    raw_js: jetstream::Context,
    raw_kv: jetstream::kv::Store,
    ours: PubSub,
    connector: Connector,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::builder().jetstream().start().await;
        let sides = Sides::connect(&server.url()).await;
        answer(&server.url()).await;
        println!("{:<36} {:>6} {:>15}", "operation", "ratio", "quartiles");
        for size in [16, 128, 1024] {
            publish(&sides, size).await;
            publish_subscribe(&sides, size).await;
            request(&sides, size).await;
            jetstream_publish(&sides, size).await;
            key_value(&sides, size).await;
        }
        many::increments(&sides).await;
        many::batches(&sides).await;
        list::keys(&sides).await;
        durable::consume(&sides).await;
        publish_many::all(&sides).await;
        objects::put(&server).await;
        rpc::unary(&sides, &server.url()).await;
    });
}

impl Sides {
    async fn connect(url: &str) -> Self {
        let raw = async_nats::connect(url).await.unwrap();
        let settings = Settings::builder().set("NATS.SERVER", url).build().unwrap();
        let connector = Connector::connect(&settings).await.unwrap();
        let raw_js = jetstream::new(raw.clone());
        let stream = jetstream::stream::Config {
            name: "BENCH".into(),
            subjects: vec!["stream.bench".into()],
            max_messages: 100_000,
            ..Default::default()
        };
        raw_js.create_stream(stream).await.unwrap();
        let config = jetstream::kv::Config { bucket: "bench_raw".into(), ..Default::default() };
        let raw_kv = raw_js.create_key_value(config).await.unwrap();
        Sides { raw, raw_js, raw_kv, ours: connector.pubsub(), connector }
    }

    /// Both sides end with the same round trip.
    async fn settle(client: &async_nats::Client) {
        let _ = client.request("bench.nobody", Bytes::new()).await;
    }
}

/// Whether the name on the command line, if there is one, is part of this one.
fn wanted(name: &str) -> bool {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    wanted.is_none_or(|wanted| name.contains(&wanted))
}

/// Runs both sides in turn and prints the ratio of their rates.
async fn compare<FA, FB>(name: String, mut raw: impl FnMut() -> FA, mut ours: impl FnMut() -> FB)
where
    FA: Future<Output = ()> + Send + 'static,
    FB: Future<Output = ()> + Send + 'static,
{
    if !wanted(&name) {
        return;
    }
    let mut ratios = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        let (raw, ours) = if run % 2 == 0 {
            let raw = timed(raw()).await;
            (raw, timed(ours()).await)
        } else {
            let ours = timed(ours()).await;
            (timed(raw()).await, ours)
        };
        // The first pair warms up.
        if run > 0 {
            ratios.push(raw.as_secs_f64() / ours.as_secs_f64());
        }
    }
    ratios.sort_by(f64::total_cmp);
    let at = |part: f64| ratios[((RUNS - 1) as f64 * part).round() as usize];
    println!("{name:<36} {:>6.2} {:>7.2}..{:.2}", at(0.5), at(0.25), at(0.75));
}

async fn timed(work: impl Future<Output = ()> + Send + 'static) -> Duration {
    let begun = Instant::now();
    tokio::spawn(work).await.unwrap();
    begun.elapsed()
}

/// `n` calls, `concurrent` at a time, each lane a task.
async fn many<F, Fut>(concurrent: usize, n: usize, call: F)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let lanes = (0..concurrent).map(|_| {
        let call = call.clone();
        tokio::spawn(async move {
            for _ in 0..n / concurrent {
                call().await;
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
}

async fn publish(sides: &Sides, size: usize) {
    const N: usize = 100_000;
    let order = Order::of(size);
    compare(
        format!("publish {size} B json"),
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                for _ in 0..N {
                    sides.raw.publish("bench.publish", order.raw()).await.unwrap();
                }
                Sides::settle(&sides.raw).await;
            }
        },
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                for _ in 0..N {
                    sides.ours.publish("bench.publish", &order).await.unwrap();
                }
                Sides::settle(&sides.connector.client().unwrap()).await;
            }
        },
    )
    .await;
    let payload = Bytes::from(vec![b'x'; size]);
    compare(
        format!("publish {size} B bytes"),
        || {
            let (sides, payload) = (sides.clone(), payload.clone());
            async move {
                for _ in 0..N {
                    sides.raw.publish("bench.publish", payload.clone()).await.unwrap();
                }
                Sides::settle(&sides.raw).await;
            }
        },
        || {
            let (sides, payload) = (sides.clone(), payload.clone());
            async move {
                for _ in 0..N {
                    sides.ours.publish_bytes("bench.publish", payload.clone()).await.unwrap();
                }
                Sides::settle(&sides.connector.client().unwrap()).await;
            }
        },
    )
    .await;
}

/// Wakes who waits after every round of messages.
#[derive(Default)]
struct Rounds {
    seen: AtomicUsize,
    full: Notify,
}

impl Rounds {
    const MESSAGES: usize = 10_000;
    const ROUNDS: usize = 8;

    fn add(&self) {
        if (self.seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(Self::MESSAGES) {
            self.full.notify_one();
        }
    }
}

async fn publish_subscribe(sides: &Sides, size: usize) {
    let order = Order::of(size);
    compare(
        format!("publish+subscribe {size} B json"),
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                let rounds = Arc::new(Rounds::default());
                let mut subscriber = sides.raw.subscribe("bench.both").await.unwrap();
                let seen = rounds.clone();
                let reader = tokio::spawn(async move {
                    while let Some(message) = subscriber.next().await {
                        Order::decode(&message.payload);
                        seen.add();
                    }
                });
                for _ in 0..Rounds::ROUNDS {
                    for _ in 0..Rounds::MESSAGES {
                        sides.raw.publish("bench.both", order.raw()).await.unwrap();
                    }
                    rounds.full.notified().await;
                }
                reader.abort();
            }
        },
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                let rounds = Arc::new(Rounds::default());
                let handle = |seen: Arc<Rounds>, message: Message| async move {
                    let order: Order = message.decode()?;
                    std::hint::black_box(order);
                    seen.add();
                    nats_connector::Result::<()>::Ok(())
                };
                let handler = with(rounds.clone(), handle);
                let subscription = sides.ours.subscribe("bench.both", handler).await.unwrap();
                for _ in 0..Rounds::ROUNDS {
                    for _ in 0..Rounds::MESSAGES {
                        sides.ours.publish("bench.both", &order).await.unwrap();
                    }
                    rounds.full.notified().await;
                }
                subscription.unsubscribe().await.unwrap();
            }
        },
    )
    .await;
}

/// A responder on a connection of its own.
async fn answer(url: &str) {
    let client = async_nats::connect(url).await.unwrap();
    let mut requests = client.subscribe("bench.echo").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                client.publish(reply, request.payload).await.unwrap();
            }
        }
    });
}

async fn request(sides: &Sides, size: usize) {
    let order = Order::of(size);
    for (concurrent, n) in [(1, 2_000), (64, 20_000)] {
        compare(
            format!("request {size} B json, {concurrent} at once"),
            || {
                let (sides, order) = (sides.clone(), order.clone());
                many(concurrent, n, move || {
                    let (sides, order) = (sides.clone(), order.clone());
                    async move {
                        let answer = sides.raw.request("bench.echo", order.raw()).await.unwrap();
                        Order::decode(&answer.payload);
                    }
                })
            },
            || {
                let (sides, order) = (sides.clone(), order.clone());
                many(concurrent, n, move || {
                    let (sides, order) = (sides.clone(), order.clone());
                    async move {
                        let answer = sides.ours.request("bench.echo", &order).await.unwrap();
                        std::hint::black_box(answer.decode::<Order>().unwrap());
                    }
                })
            },
        )
        .await;
    }
}

async fn jetstream_publish(sides: &Sides, size: usize) {
    const N: usize = 2_000;
    let order = Order::of(size);
    compare(
        format!("jetstream publish {size} B json"),
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                for _ in 0..N {
                    let ack = sides.raw_js.publish("stream.bench", order.raw()).await.unwrap();
                    ack.await.unwrap();
                }
            }
        },
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                for _ in 0..N {
                    sides.ours.publish("stream.bench", &order).jetstream().await.unwrap();
                }
            }
        },
    )
    .await;
}

async fn key_value(sides: &Sides, size: usize) {
    const N: usize = 2_000;
    let order = Order::of(size);
    let bucket = sides.connector.kv().bucket("bench_ours");
    compare(
        format!("kv set {size} B json"),
        || {
            let (sides, order) = (sides.clone(), order.clone());
            async move {
                for _ in 0..N {
                    sides.raw_kv.put("order", order.raw()).await.unwrap();
                }
            }
        },
        || {
            let (bucket, order) = (bucket.clone(), order.clone());
            async move {
                for _ in 0..N {
                    bucket.set("order", &order).await.unwrap();
                }
            }
        },
    )
    .await;
    compare(
        format!("kv get {size} B json"),
        || {
            let sides = sides.clone();
            async move {
                for _ in 0..N {
                    Order::decode(&sides.raw_kv.get("order").await.unwrap().unwrap());
                }
            }
        },
        || {
            let bucket = bucket.clone();
            async move {
                for _ in 0..N {
                    let order: Option<Order> = bucket.get("order").await.unwrap();
                    std::hint::black_box(order.unwrap());
                }
            }
        },
    )
    .await;
}
