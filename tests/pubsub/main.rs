//! The portable pub/sub API against a real nats-server.

mod delivery;
mod handlers;
mod jetstream;
mod messages;
mod refusals;
mod requests;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use nats_connector::pubsub::{Message, Messages};
use nats_connector::{Connector, Settings};
use testkit::{Server, eventually};

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(15);

async fn connect(server: &Server) -> Connector {
    connect_with(server, &[]).await
}

async fn connect_with(server: &Server, settings: &[(&str, &str)]) -> Connector {
    let mut builder = Settings::builder().set("NATS.SERVER", server.url());
    for (key, value) in settings {
        builder = builder.set(*key, *value);
    }
    Connector::connect(&builder.build().unwrap()).await.unwrap()
}

/// The next item of a stream that must have one.
async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("nothing came in time").expect("the stream ended")
}

/// The next message of a subscription to everything that is not between a connection and itself.
async fn next_public(stream: &mut Messages) -> Message {
    loop {
        let message = next(stream).await;
        if !message.topic().starts_with("_INBOX.") {
            return message;
        }
    }
}

/// What handlers saw, in order.
#[derive(Clone, Debug)]
struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone + Debug + PartialEq> Seen<T> {
    fn new() -> Self {
        Seen(Arc::default())
    }

    fn push(&self, item: T) {
        self.0.lock().unwrap().push(item);
    }

    fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    async fn wait_for(&self, count: usize) -> Vec<T> {
        eventually(PATIENCE, || async { self.0.lock().unwrap().len() >= count }).await;
        self.all()
    }
}
