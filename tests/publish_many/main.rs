//! Publishing many messages, on real servers.

mod atomic;
mod faults;
mod refused;
mod ways;

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::{Config, Stream};
use futures::StreamExt;
use nats_connector::pubsub::{Outgoing, PubSub};
use nats_connector::{Connector, Settings};
use testkit::Server;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(server: &Server) -> Connector {
    connect_to(&server.url(), &[]).await
}

async fn connect_to(url: &str, settings: &[(&str, &str)]) -> Connector {
    let mut builder = Settings::builder().set("NATS.SERVER", url).set("NATS.MAX_RECONNECT", "-1");
    for (key, value) in settings {
        builder = builder.set(*key, *value);
    }
    Connector::connect(&builder.build().unwrap()).await.unwrap()
}

async fn jetstream() -> Server {
    Server::builder().jetstream().start().await
}

/// A stream of this name for `<name>.>` that takes batches of both kinds.
fn batched(name: &str) -> Config {
    Config { allow_batch_publish: true, allow_atomic_publish: true, ..plain(name) }
}

/// A stream of this name for `<name>.>`.
fn plain(name: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        duplicate_window: PATIENCE * 10,
        ..Default::default()
    }
}

async fn make(connector: &Connector, config: Config) -> Stream {
    connector.jetstream().unwrap().create_stream(config).await.unwrap()
}

/// Numbers as messages.
fn numbers(
    pubsub: &PubSub,
    topic: &'static str,
    range: std::ops::Range<u64>,
) -> impl Iterator<Item = Outgoing> + Send + use<> {
    let pubsub = pubsub.clone();
    range.map(move |n| pubsub.publish(topic, &n).into())
}

/// Asks until there is an answer: what a server was asked is lost when it is killed, and a stream
/// may be without a leader for a moment.
async fn answered<T, E: std::fmt::Debug, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(Duration::from_secs(3), ask()).await {
            Ok(Ok(answer)) => return answer,
            failed => {
                assert!(begun.elapsed() < PATIENCE, "no answer: {:?}", failed.map(Result::err));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The numbers that a stream holds, in its order.
async fn stored(stream: &Stream) -> Vec<u64> {
    let count = answered(|| stream.get_info()).await.state.messages;
    let consumer = answered(|| stream.create_consumer(OrderedConfig::default())).await;
    let messages = consumer.messages().await.unwrap();
    let read = messages.take(usize::try_from(count).unwrap()).map(|message| {
        std::str::from_utf8(&message.unwrap().payload).unwrap().parse::<u64>().unwrap()
    });
    tokio::time::timeout(PATIENCE, read.collect()).await.expect("the stream can be read")
}

/// All of them, each once, in whichever order.
#[track_caller]
fn assert_each_once(mut found: Vec<u64>, count: u64) {
    found.sort_unstable();
    let wrong: Vec<u64> = (0..count)
        .filter(|n| {
            found.iter().skip(found.partition_point(|it| it < n)).take_while(|it| *it == n).count()
                != 1
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} are not there once: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    assert_eq!(found.len() as u64, count);
}
