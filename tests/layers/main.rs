//! Layers around handlers, on the memory driver and on a real nats-server.

mod dedupe;
mod durable;
mod faults;
mod once;
mod order;
mod retry;
mod timeout;
mod traced;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_connector::layers::Layer;
use nats_connector::pubsub::{Handler, HandlerResult, Message, Subscription};
use nats_connector::{BoxError, Connector, Settings};
use testkit::{Server, eventually};

/// Long enough for a busy machine: only a failure waits for it.
const LIMIT: Duration = Duration::from_secs(60);
/// What a handler that is to be stopped would take.
const FOREVER: Duration = Duration::from_secs(3600);

async fn connect(url: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).set("NATS.MAX_RECONNECT", "-1");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

/// A connector in memory, and one to a server that lives as long as the first value.
async fn connectors() -> (Server, [Connector; 2]) {
    let server = Server::builder().jetstream().start().await;
    let real = connect(&server.url()).await;
    (server, [Connector::memory(), real])
}

/// Waits until a subscription is done with this many messages.
async fn done(subscription: &Subscription, messages: u64) {
    eventually(LIMIT, || async {
        let stats = subscription.stats();
        stats.handled + stats.failed + stats.panicked >= messages
    })
    .await;
}

/// A layer that writes down the errors that pass it.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Errors {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<H: Handler> Layer<H> for Errors {
    fn layer(self, handler: H) -> impl Handler {
        move |message: Message| {
            let errors = self.0.clone();
            let handling = handler.call(message);
            async move {
                let result = handling.await.into_outcome();
                result.inspect_err(|error| errors.lock().unwrap().push(error.to_string()))
            }
        }
    }
}

fn failure(text: &str) -> BoxError {
    text.into()
}
