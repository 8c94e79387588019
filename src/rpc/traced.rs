//! A tracing span for each call.

use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::Instrument;
use tracing::field::Empty;

use super::{Interceptor, Next, RawCall, Result, Served};

/// Runs each call of a service in a `tracing` span of its own, `call`, at the level INFO:
/// `service.intercept(Traced)`. A stream's span is as long as the stream.
///
/// Its fields follow OpenTelemetry's conventions for RPC where these have one:
///
/// | field | |
/// |---|---|
/// | `otel.name` | the service's name, `/`, and the method's |
/// | `otel.kind` | `server` |
/// | `otel.status_code`, `error.type`, `otel.status_description` | `ERROR`, the code and the text, when the call failed |
/// | `rpc.system`, `rpc.service`, `rpc.method` | `nats`, and the names |
/// | `messaging.destination.name` | the subject |
///
/// With the feature `otel`, and `tracing-opentelemetry` among the subscriber's layers, the parent is
/// the context of the call's `traceparent`, `tracestate` and `baggage` headers, which clients of this
/// library send.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traced;

impl Interceptor for Traced {
    fn intercept(&self, call: RawCall, next: Next) -> BoxFuture<'static, Result<Served>> {
        let span = tracing::info_span!(
            "call",
            otel.name = format!("{}/{}", call.service(), call.method()),
            otel.kind = "server",
            otel.status_code = Empty,
            otel.status_description = Empty,
            error.type = Empty,
            rpc.system = "nats",
            rpc.service = call.service(),
            rpc.method = call.method(),
            messaging.destination.name = call.subject(),
        );
        #[cfg(feature = "otel")]
        crate::otel::continue_trace(&span, call.headers());
        let recorded = span.clone();
        let traced = async move {
            let served = next.run(call).await;
            if let Err(error) = &served {
                recorded.record("otel.status_code", "ERROR");
                recorded.record("otel.status_description", error.message());
                recorded.record("error.type", error.code());
            }
            served
        };
        traced.instrument(span).boxed()
    }
}
