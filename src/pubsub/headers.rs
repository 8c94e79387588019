//! Headers as they are given to a call, checked instead of panicking, and their size on the wire.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};

use crate::error::{Error, ErrorKind, Result};

/// A header that is safe to send.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] naming the header, never its value: CR or LF in a value would let
/// it add headers of its own.
pub(crate) fn checked(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let refuse = |message| Error::new(ErrorKind::InvalidInput, message).with("header", name);
    // The client accepts an empty name, which no reader could tell from a broken line.
    if name.is_empty() {
        return Err(refuse("a header has no name; give it one"));
    }
    let name = name.parse().map_err(|_| {
        refuse(
            "a header's name has white space, `:`, a control or a non-ASCII character; remove it",
        )
    })?;
    let value = value
        .parse()
        .map_err(|_| refuse("a header's value has a CR or LF; encode or remove it"))?;
    Ok((name, value))
}

/// The headers of a received message that may go with another one. Those that servers read or wrote
/// stay behind: published again they would expire the new message, refuse it, count it as a
/// duplicate, or cancel the schedule that the old one came from.
pub(crate) fn of_the_user(headers: &HeaderMap) -> HeaderMap {
    without(headers, |name| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("Nats-")))
}

/// Headers but for those whose names are meant.
pub(crate) fn without(headers: &HeaderMap, meant: impl Fn(&str) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| !meant(name.as_ref())) {
        for value in values {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// The bytes that headers take of a message's payload limit.
pub(crate) fn wire_size(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let line = |name: &HeaderName, value: &HeaderValue| {
        let name: &str = name.as_ref();
        name.len() + ": ".len() + value.as_str().len() + "\r\n".len()
    };
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |v| line(name, v)));
    "NATS/1.0\r\n".len() + lines.sum::<usize>() + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_protocol_is_refused_by_name() {
        for (name, value) in [
            ("", "x"),
            ("a:b", "x"),
            ("a b", "x"),
            ("é", "x"),
            ("a\r\nb", "x"),
            ("Trace", "secret\r\nX: y"),
            ("Trace", "secret\n"),
        ] {
            let error = checked(name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.context("header"), Some(name));
            assert!(!format!("{error:?}").contains("secret"));
        }
        let (name, value) = checked("Trace-Id", "é: ok").unwrap();
        assert_eq!((name.to_string().as_str(), value.as_str()), ("Trace-Id", "é: ok"));
    }

    #[test]
    fn what_servers_read_is_not_carried_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Nats-Msg-Id", "1"),
            ("Nats-Scheduler", "a.b"),
            ("nats-ttl", "5"),
            ("Nats", "kept"),
            ("Trace", "1"),
            ("Trace", "2"),
        ] {
            headers.append(name, value);
        }
        let kept = of_the_user(&headers);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.get("Nats").unwrap().as_str(), "kept");
        assert_eq!(kept.get_all("Trace").count(), 2);
    }

    #[test]
    fn size_is_what_goes_over_the_wire() {
        let mut headers = HeaderMap::new();
        assert_eq!(wire_size(&headers), 0);
        headers.append("A", "1");
        headers.append("A", "22");
        assert_eq!(wire_size(&headers), "NATS/1.0\r\nA: 1\r\nA: 22\r\n\r\n".len());
    }
}
