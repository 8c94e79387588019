//! A tracing span for each message.

use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::Layer;
use crate::error::{BoxError, Error};
use crate::pubsub::{DeliveryInfo, Handler, HandlerResult, Message, Outcome};

/// Runs the handler in a `tracing` span of its own, `process`, at the level INFO.
///
/// Its fields follow OpenTelemetry's conventions for messaging where these have one:
///
/// | field | |
/// |---|---|
/// | `otel.name` | `process` and the layer's name |
/// | `otel.kind` | `consumer` |
/// | `otel.status_code`, `error.type`, `otel.status_description` | `ERROR`, what and why, when the handler failed |
/// | `messaging.system`, `messaging.operation.type` | `nats`, `process` |
/// | `messaging.operation.name` | the layer's name |
/// | `messaging.destination.name` | the subject |
/// | `messaging.message.id` | the `Nats-Msg-Id` header |
/// | `messaging.message.body.size` | the payload's bytes |
/// | `topic` | the subject without the handle's prefix |
/// | `stream`, `sequence`, `deliveries`, `messaging.destination.subscription.name` | of a durable subscription; the last one is its name |
/// | `outcome` | `ack`, `retry` or `reject`; none after an error |
///
/// With the feature `otel`, and `tracing-opentelemetry` among the subscriber's layers, the parent is
/// the context of the message's `traceparent`, `tracestate` and `baggage` headers.
#[derive(Debug, Clone)]
pub struct Traced {
    name: String,
    otel_name: String,
}

impl Traced {
    /// `name` says what the handler does, the same for all its messages.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Traced { otel_name: format!("process {name}"), name }
    }

    fn span(&self, message: &Message) -> Span {
        let delivery = message.delivery();
        let span = tracing::info_span!(
            "process",
            otel.name = self.otel_name,
            otel.kind = "consumer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            error.type = Empty,
            messaging.system = "nats",
            messaging.operation.type = "process",
            messaging.operation.name = self.name,
            messaging.destination.name = message.subject().as_str(),
            messaging.message.id = message.header("Nats-Msg-Id"),
            messaging.message.body.size = message.payload().len(),
            topic = message.topic(),
            messaging.destination.subscription.name = delivery.map(DeliveryInfo::consumer),
            stream = delivery.map(DeliveryInfo::stream),
            sequence = delivery.map(DeliveryInfo::sequence),
            deliveries = delivery.map(DeliveryInfo::deliveries),
            outcome = Empty,
        );
        #[cfg(feature = "otel")]
        crate::otel::continue_trace(&span, message.headers());
        span
    }
}

impl<H: Handler> Layer<H> for Traced {
    fn layer(self, handler: H) -> impl Handler {
        move |message: Message| {
            let span = self.span(&message);
            let handling = span.in_scope(|| handler.call(message));
            let recorded = span.clone();
            async move {
                let result = handling.await.into_outcome();
                record(&recorded, &result);
                result
            }
            .instrument(span)
        }
    }
}

fn record(span: &Span, result: &Result<Outcome, BoxError>) {
    match result {
        Ok(Outcome::Ack) => span.record("outcome", "ack"),
        Ok(Outcome::Retry(_)) => span.record("outcome", "retry"),
        Ok(Outcome::Reject(reason)) => {
            span.record("outcome", "reject");
            failed(span, "reject", reason)
        }
        Err(error) => {
            let kind = error.downcast_ref::<Error>().map(Error::kind);
            let kind = kind.map_or_else(|| "_OTHER".to_owned(), |kind| format!("{kind:?}"));
            failed(span, &kind, &error.to_string())
        }
    };
}

fn failed<'a>(span: &'a Span, kind: &str, why: &str) -> &'a Span {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", why);
    span.record("error.type", kind)
}
