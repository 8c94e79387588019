//! W3C trace context in the headers of messages: `traceparent`, `tracestate` and `baggage`.

use async_nats::HeaderMap;
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::pubsub::headers::{checked, wire_size};

/// The headers, and the most bytes that a value of each may have, in and out. The standard asks for
/// at least as much of the last two.
const LIMITS: [(&str, usize); 3] = [("traceparent", 256), ("tracestate", 512), ("baggage", 8192)];

/// Adds the current context to the headers of a message that has `room` more bytes, if there is a
/// context, it fits, and the message has none of its own. The subscriber's layer makes its spans the
/// current context unless it is told not to; asking it instead would cost more than a publish.
pub(crate) fn inject(headers: &mut Option<Box<HeaderMap>>, room: usize) {
    if !Context::map_current(is_valid) {
        return;
    }
    let context = Context::current();
    if headers.as_deref().is_some_and(|headers| find(headers, "traceparent").is_some()) {
        return;
    }
    let mut outgoing = Outgoing(HeaderMap::new());
    TraceContextPropagator::new().inject_context(&context, &mut outgoing);
    BaggagePropagator::new().inject_context(&context, &mut outgoing);
    if wire_size(&outgoing.0) > room {
        return;
    }
    let headers = headers.get_or_insert_default();
    for (name, values) in outgoing.0.iter() {
        for value in values {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Makes a span that was not entered yet the child of the context in a message's headers. Headers
/// that are malformed or too long are ignored.
pub(crate) fn continue_trace(span: &Span, headers: Option<&HeaderMap>) {
    let Some(headers) = headers else { return };
    let context = extract(headers);
    if is_valid(&context) || !context.baggage().is_empty() {
        // Without the subscriber's layer there is no trace to continue.
        let _ = span.set_parent(context);
    }
}

fn extract(headers: &HeaderMap) -> Context {
    let incoming = Incoming(headers);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &incoming);
    BaggagePropagator::new().extract_with_context(&context, &incoming)
}

fn is_valid(context: &Context) -> bool {
    context.span().span_context().is_valid()
}

/// The value of a header, whose name other clients write with capitals.
fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut named = headers.iter().filter(|(own, _)| {
        let own: &str = (*own).as_ref();
        own.eq_ignore_ascii_case(name)
    });
    named.next()?.1.first().map(async_nats::HeaderValue::as_str)
}

fn fits(name: &str, value: &str) -> bool {
    LIMITS.iter().any(|(known, most)| *known == name && value.len() <= *most)
}

/// Whether this is `<version>-<trace>-<span>-<flags>`, of which the propagator knows no lengths. A
/// later version may have more behind it.
fn is_traceparent(value: &str) -> bool {
    let (parent, rest) = value.as_bytes().split_at(value.len().min(55));
    let right = |(index, byte): (usize, &u8)| match index {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    parent.len() == 55
        && parent.iter().enumerate().all(right)
        && (rest.is_empty() || rest[0] == b'-' && !parent.starts_with(b"00"))
}

struct Outgoing(HeaderMap);

impl Injector for Outgoing {
    fn set(&mut self, name: &str, value: String) {
        if !value.is_empty()
            && fits(name, &value)
            && let Ok((name, value)) = checked(name, &value)
        {
            self.0.insert(name, value);
        }
    }
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = find(self.0, name).filter(|value| fits(name, value));
        value.filter(|value| name != "traceparent" || is_traceparent(value))
    }

    fn keys(&self) -> Vec<&str> {
        LIMITS.iter().map(|(name, _)| *name).filter(|name| self.get(name).is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(state: TraceState) -> Context {
        let (trace, span) = (TraceId::from(7_u128), SpanId::from(9_u64));
        let span = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state);
        Context::new().with_remote_span_context(span)
    }

    fn injected(context: Context, room: usize) -> Option<Box<HeaderMap>> {
        let mut headers = None;
        let _attached = context.attach();
        inject(&mut headers, room);
        headers
    }

    fn extracted(headers: &[(&str, &str)]) -> Context {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        extract(&map)
    }

    #[test]
    fn what_goes_out_comes_in() {
        let state = TraceState::from_key_value([("vendor", "x")]).unwrap();
        let sent = context(state).with_baggage([KeyValue::new("user", "Ada, é\r\nX: y")]);
        let headers = injected(sent.clone(), 1000).unwrap();
        assert_eq!(
            find(&headers, "traceparent"),
            Some("00-00000000000000000000000000000007-0000000000000009-01")
        );
        assert_eq!(find(&headers, "tracestate"), Some("vendor=x"));
        let context = extract(&headers);
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_id(), sent.span().span_context().trace_id());
        assert_eq!(span.span_id(), sent.span().span_context().span_id());
        assert!(span.is_remote() && span.is_sampled());
        assert_eq!(context.baggage().get("user").unwrap().as_str(), "Ada, é\r\nX: y");
    }

    #[test]
    fn nothing_is_added_without_a_context_without_room_or_over_another() {
        assert!(injected(Context::new(), 1000).is_none());
        assert!(injected(context(TraceState::NONE), 40).is_none());
        let mut headers = Some(Box::new(HeaderMap::new()));
        headers.as_mut().unwrap().insert("Traceparent", PARENT);
        let _attached = context(TraceState::NONE).attach();
        inject(&mut headers, 1000);
        assert_eq!(headers.unwrap().iter().count(), 1);
    }

    #[test]
    fn names_with_capitals_and_later_versions_are_read() {
        assert!(is_valid(&extracted(&[("Traceparent", PARENT)])));
        let later = format!("cc{}-more", &PARENT[2..]);
        assert!(is_valid(&extracted(&[("traceparent", &later)])));
    }

    #[test]
    fn what_is_malformed_or_too_long_is_ignored() {
        let long = format!("{PARENT}{}", "0".repeat(300));
        let (short, plus) = (&PARENT[..50], PARENT.replace("4b", "+b"));
        let (other, more) = (PARENT.replace("4bf", "é"), format!("{PARENT}-more"));
        for value in ["", "00-1-2-3", "nonsense", short, &plus, &other, &more, &long] {
            assert!(!is_valid(&extracted(&[("traceparent", value)])), "{value}");
        }
        let state = format!("a={}", "x".repeat(600));
        let baggage = format!("a={}", "x".repeat(9000));
        for (state, baggage) in [(&*state, &*baggage), ("no value", ";;;===,%zz")] {
            let context =
                extracted(&[("traceparent", PARENT), ("tracestate", state), ("baggage", baggage)]);
            assert!(is_valid(&context));
            assert_eq!(context.span().span_context().trace_state().header(), "");
            assert!(context.baggage().get("a").is_none());
        }
    }
}
