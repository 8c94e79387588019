//! One trace from the publisher to the handler, over a real nats-server.

use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use nats_connector::layers::Traced;
use nats_connector::pubsub::{Message, Outcome, PubSub};
use nats_connector::rpc::{self, Endpoint, Method, RpcError, ServiceConfig};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Settings};
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use testkit::{Server, eventually};
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

const LIMIT: Duration = Duration::from_secs(20);

static SPANS: Mutex<Vec<SpanData>> = Mutex::new(Vec::new());

/// Keeps spans in memory.
#[derive(Debug)]
struct Keep;

impl SpanExporter for Keep {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        SPANS.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// For the whole process, since handlers run on other threads.
static TRACING: LazyLock<SdkTracerProvider> = LazyLock::new(|| {
    let provider = SdkTracerProvider::builder().with_simple_exporter(Keep).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("no other default");
    provider
});

async fn start() -> (Server, Connector) {
    LazyLock::force(&TRACING);
    let server = Server::builder().jetstream().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    (server, connector)
}

/// The finished span of this name, once there is one.
async fn span(name: &str) -> SpanData {
    let find = || SPANS.lock().unwrap().iter().find(|span| span.name == name).cloned();
    eventually(LIMIT, || async { find().is_some() }).await;
    find().unwrap()
}

async fn assert_child(child: &str, parent: &str) {
    let (child, parent) = (span(child).await, span(parent).await);
    assert_ne!(parent.span_context.trace_id(), TraceId::INVALID);
    assert_eq!(child.span_context.trace_id(), parent.span_context.trace_id());
    assert_eq!(child.parent_span_id, parent.span_context.span_id());
}

/// Tells the baggage that a handler finds.
async fn user(_: Message) {
    let user = Context::map_current(|context| context.baggage().get("user").cloned());
    let user = user.map_or_else(String::new, |user| user.to_string());
    tracing::Span::current().set_attribute("user", user);
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let mut named = span.attributes.iter().filter(|own| own.key.as_str() == name);
    named.next().map(|own| own.value.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_message_goes_on_with_its_publishers_trace() {
    let (_server, connector) = start().await;
    for (name, pubsub) in [("core", connector.pubsub()), ("memory", Connector::memory().pubsub())] {
        let (handler, publisher) = (format!("{name} handler"), format!("{name} publisher"));
        let call = pubsub.subscribe("t", user).layer(Traced::new(handler.as_str()));
        let _subscription = call.await.unwrap();
        let span = tracing::info_span!("publish", otel.name = publisher);
        let baggage = Context::new().with_baggage([opentelemetry::KeyValue::new("user", "Ada")]);
        span.set_parent(baggage).unwrap();
        async { pubsub.publish("t", &1).await.unwrap() }.instrument(span).await;
        let child = format!("process {handler}");
        assert_child(&child, &publisher).await;
        assert_eq!(attribute(&self::span(&child).await, "user").as_deref(), Some("Ada"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_answer_carry_the_trace() {
    let (_server, connector) = start().await;
    let pubsub = connector.pubsub();
    let answer = async |msg: Message| msg.respond(&1).await;
    let call = pubsub.subscribe("ask", answer).layer(Traced::new("answerer"));
    let _subscription = call.await.unwrap();
    let asker = tracing::info_span!("ask", otel.name = "asker");
    let answer = pubsub.request("ask", &()).instrument(asker).await.unwrap();
    assert_child("process answerer", "asker").await;
    let answerer = span("process answerer").await.span_context;
    let expected = format!("00-{}-{}-01", answerer.trace_id(), answerer.span_id());
    assert_eq!(answer.header("traceparent"), Some(&*expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_with_its_callers_trace() {
    let (_server, connector) = start().await;
    let half = Method::<u32, u32>::json("half");
    let config = ServiceConfig::new("halver");
    let answer = async |request: rpc::Request<u32>| match request.into_inner() {
        odd if odd % 2 == 1 => Err(RpcError::invalid_argument("odd")),
        even => Ok(even / 2),
    };
    let service = connector.rpc().service(config.clone()).intercept(rpc::Traced);
    service.endpoint(Endpoint::unary(&half, answer)).serve().await.unwrap();
    let client = connector.rpc().client(config);
    let caller = tracing::info_span!("caller", otel.name = "caller of a half");
    let answer = client.call(&half, 3).instrument(caller).await;
    assert!(answer.unwrap_err().is("INVALID_ARGUMENT"));
    assert_child("halver/half", "caller of a half").await;
    let span = span("halver/half").await;
    assert_eq!(attribute(&span, "error.type").as_deref(), Some("INVALID_ARGUMENT"));
    assert_eq!(attribute(&span, "rpc.method").as_deref(), Some("half"));
    assert_eq!(client.call(&half, 4).await.unwrap().into_inner(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_the_trace_of_what_it_stores() {
    let (_server, connector) = start().await;
    let pubsub = connector.pubsub();
    pubsub.stream(StreamConfig::new("STORED", ["stored"])).await.unwrap();
    let span = tracing::info_span!("store", otel.name = "storer");
    pubsub.publish("stored", &1).jetstream().instrument(span).await.unwrap();
    // Each delivery is a child of its own.
    let handler = async |msg: Message| match msg.delivery().unwrap().deliveries() {
        1 => Outcome::retry_after(Duration::ZERO),
        _ => Outcome::Ack,
    };
    let call = pubsub.subscribe("stored", handler).layer(Traced::new("store")).durable("store");
    let subscription = call.await.unwrap();
    eventually(LIMIT, || async { subscription.stats().handled == 1 }).await;
    assert_child("process store", "storer").await;
    let storer = self::span("storer").await.span_context;
    let children = || {
        let spans = SPANS.lock().unwrap();
        spans.iter().filter(|span| span.parent_span_id == storer.span_id()).count()
    };
    eventually(LIMIT, || async { children() == 2 }).await;
}

/// The headers of the next message.
async fn published(pubsub: &PubSub, publish: impl Future<Output = ()>) -> Vec<(String, String)> {
    use futures::StreamExt as _;
    let mut messages = pubsub.messages("t").await.unwrap();
    publish.await;
    let message = tokio::time::timeout(LIMIT, messages.next()).await.unwrap().unwrap();
    let headers = message.headers().into_iter().flat_map(async_nats::HeaderMap::iter);
    headers.map(|(name, values)| (name.to_string(), values[0].as_str().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_added_without_a_context_and_nothing_is_overwritten() {
    let (_server, connector) = start().await;
    let pubsub = connector.pubsub();
    let plain = async { pubsub.publish("t", &1).await.unwrap() };
    assert_eq!(published(&pubsub, plain).await, []);
    let own = async { pubsub.publish("t", &1).header("traceparent", "mine").await.unwrap() };
    let headers = published(&pubsub, own.instrument(tracing::info_span!("publish"))).await;
    assert_eq!(headers, [("traceparent".to_owned(), "mine".to_owned())]);
    // A message that fits without a trace is not too large with one.
    let full = vec![0; connector.client().unwrap().max_payload()];
    let full = async { pubsub.publish_bytes("t", full).await.unwrap() };
    let headers = published(&pubsub, full.instrument(tracing::info_span!("publish"))).await;
    assert_eq!(headers, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_context_begins_a_trace_of_its_own() {
    let (_server, connector) = start().await;
    let pubsub = connector.pubsub();
    let call = pubsub.subscribe("t", user).layer(Traced::new("malformed"));
    let subscription = call.await.unwrap();
    let long = "x".repeat(100_000);
    for value in ["", "00-x-y-z", &long] {
        let publish = pubsub.publish("t", &1).header("traceparent", value);
        publish.header("tracestate", &long).header("baggage", &long).await.unwrap();
    }
    eventually(LIMIT, || async { subscription.stats().handled == 3 }).await;
    let own = |span: &SpanData| {
        span.name == "process malformed"
            && span.parent_span_id == SpanId::INVALID
            && span.span_context.is_valid()
            && attribute(span, "user").as_deref() == Some("")
    };
    let count = || SPANS.lock().unwrap().iter().filter(|span| own(span)).count();
    eventually(LIMIT, || async { count() == 3 }).await;
}
