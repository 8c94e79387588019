//! The span of each message.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_connector::layers::Traced;
use nats_connector::pubsub::{Message, Outcome};
use nats_connector::streams::StreamConfig;
use nats_connector::{BoxError, Error, ErrorKind};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::{connectors, done};

/// The fields of every span called `process`, and in which of them something was logged.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(u64, Told)>>>);

type Told = HashMap<String, String>;

struct Fields<'a>(&'a mut Told);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Spans {
    fn edit(&self, id: u64, change: impl FnOnce(&mut Told)) {
        let mut spans = self.0.lock().unwrap();
        // Ids are used again; the last one is meant.
        if let Some((_, fields)) = spans.iter_mut().rev().find(|(own, _)| *own == id) {
            change(fields);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "process" {
            self.0.lock().unwrap().push((id.into_u64(), HashMap::new()));
            self.edit(id.into_u64(), |fields| attributes.record(&mut Fields(fields)));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.edit(id.into_u64(), |fields| values.record(&mut Fields(fields)));
    }

    fn on_event(&self, _: &Event<'_>, context: Context<'_, S>) {
        if let Some(span) = context.lookup_current() {
            let logged = |fields: &mut Told| fields.insert("logged".into(), "yes".into());
            self.edit(span.id().into_u64(), |fields| drop(logged(fields)));
        }
    }
}

/// On one thread, so that the subscriber of this test is that of all its tasks.
#[tokio::test]
async fn a_span_has_what_is_known_of_its_message() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        spans.0.lock().unwrap().clear();
        let pubsub = connector.pubsub().with_prefix("app.");
        let obey = |msg: Message| async move {
            tokio::task::yield_now().await;
            tracing::info!("at work");
            match &msg.payload()[..] {
                b"fail" => Err(BoxError::from("as told")),
                b"down" => Err(Error::new(ErrorKind::Unavailable, "down").into()),
                b"retry" => Ok(Outcome::retry()),
                b"reject" => Ok(Outcome::reject("no such order")),
                _ => Ok(Outcome::Ack),
            }
        };
        let call = pubsub.subscribe("orders.*", obey).layer(Traced::new("bill"));
        let subscription = call.await.unwrap();
        let payloads = ["fine", "fail", "down", "retry", "reject"];
        for payload in payloads {
            let publish = pubsub.publish_bytes("orders.7", payload);
            publish.header("Nats-Msg-Id", "id-7").await.unwrap();
        }
        done(&subscription, payloads.len() as u64).await;
        let spans = spans.0.lock().unwrap().clone();
        assert_eq!(spans.len(), payloads.len());
        for (_, fields) in &spans {
            for (name, value) in [
                ("otel.name", "process bill"),
                ("otel.kind", "consumer"),
                ("messaging.system", "nats"),
                ("messaging.operation.type", "process"),
                ("messaging.operation.name", "bill"),
                ("messaging.destination.name", "app.orders.7"),
                ("messaging.message.id", "id-7"),
                ("topic", "orders.7"),
                ("logged", "yes"),
            ] {
                assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name}");
            }
        }
        let column = |name: &str| -> Vec<Option<String>> {
            spans.iter().map(|(_, fields)| fields.get(name).cloned()).collect()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(column("outcome"), [some("ack"), None, None, some("retry"), some("reject")]);
        assert_eq!(
            column("error.type"),
            [None, some("_OTHER"), some("Unavailable"), None, some("reject")]
        );
        assert_eq!(
            column("otel.status_description"),
            [None, some("as told"), some("down"), None, some("no such order")]
        );
        assert_eq!(column("messaging.message.body.size")[0], some("4"));
    }
}

#[tokio::test]
async fn a_durable_subscription_adds_where_its_messages_come_from() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        spans.0.lock().unwrap().clear();
        let pubsub = connector.pubsub();
        pubsub.stream(StreamConfig::new("ORDERS", ["orders"])).await.unwrap();
        pubsub.publish("orders", &1).jetstream().await.unwrap();
        let handler = async |msg: Message| match msg.delivery().unwrap().deliveries() {
            1 => Outcome::retry_after(Duration::ZERO),
            _ => Outcome::Ack,
        };
        let call =
            pubsub.subscribe("orders", handler).layer(Traced::new("bill")).durable("billing");
        let subscription = call.await.unwrap();
        done(&subscription, 2).await;
        let spans = spans.0.lock().unwrap().clone();
        for (deliveries, outcome) in [("1", "retry"), ("2", "ack")] {
            let told = |(_, fields): &&(u64, Told)| fields["deliveries"] == deliveries;
            let (_, fields) = spans.iter().find(told).unwrap();
            assert_eq!(fields["stream"], "ORDERS");
            assert_eq!(fields["sequence"], "1");
            assert_eq!(fields["messaging.destination.subscription.name"], "billing");
            assert_eq!(fields["outcome"], outcome);
        }
    }
}
