//! Errors as headers. Services tell them by ADR-32's pair; some generated for TypeScript and Python,
//! and old Go clients, know `Status` and `Description` instead, so both pairs are written and either
//! is read.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{RpcError, code};
use crate::pubsub::headers::{checked, without};

/// The code, a text (ADR-32).
pub(crate) const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// What went wrong, for people (ADR-32).
pub(crate) const ERROR: &str = "Nats-Service-Error";
const STATUS: &str = "Status";
const DESCRIPTION: &str = "Description";

/// In `Status` the server's word that nobody listens, for which clients of Go and Python take it
/// wherever it comes from.
const NOBODY: &str = "503";

/// The longest text that goes over the wire, in bytes: a header must not crowd out the body.
const LONGEST: usize = 8 * 1024;

/// The headers that tell an error, with its own ones.
pub(crate) fn error_headers(error: &RpcError) -> HeaderMap {
    let told = |name: &str| [ERROR_CODE, ERROR, STATUS, DESCRIPTION].contains(&name);
    // What an error of another service said of itself is said anew.
    let own = error.headers();
    let mut headers = own.map_or_else(HeaderMap::new, |own| without(own, told));
    let code = safe(error.code(), code::INTERNAL);
    let text = safe(error.message(), "no reason given");
    let status = if code == NOBODY { code::UNAVAILABLE } else { &code };
    for (name, value) in
        [(ERROR_CODE, code.as_str()), (ERROR, &text), (STATUS, status), (DESCRIPTION, &text)]
    {
        // Nothing in a safe text can be refused.
        if let Ok((name, value)) = checked(name, value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// One line without control characters, not empty, and not too long.
fn safe(text: &str, otherwise: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = line.trim();
    if line.len() > LONGEST {
        let mut end = LONGEST;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line = &line[..end];
    }
    if line.is_empty() { otherwise.to_owned() } else { line.to_owned() }
}

/// The error that an answer tells, if it tells one.
pub(crate) fn read_error(headers: Option<&HeaderMap>, body: &Bytes) -> Option<RpcError> {
    let headers = headers?;
    let get = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    let (code, text) = match (get(ERROR_CODE), get(ERROR)) {
        (None, None) => (get(STATUS)?, get(DESCRIPTION)),
        (code, text) => (code.unwrap_or(super::code::INTERNAL), text),
    };
    let or = |text: &str, otherwise: &str| {
        if text.trim().is_empty() { otherwise.to_owned() } else { text.to_owned() }
    };
    let text = or(text.unwrap_or_default(), "no reason given");
    let error = RpcError::new(or(code, super::code::INTERNAL), text);
    Some(error.with_body(body.clone()).remote(Some(headers.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(async_nats::HeaderValue::as_str)
    }

    #[test]
    fn both_pairs_are_written() {
        let error = RpcError::not_found("nope").with_header("Retry-After", "5").unwrap();
        let headers = error_headers(&error);
        assert_eq!(value(&headers, "Nats-Service-Error-Code"), Some("NOT_FOUND"));
        assert_eq!(value(&headers, "Nats-Service-Error"), Some("nope"));
        assert_eq!(value(&headers, "Status"), Some("NOT_FOUND"));
        assert_eq!(value(&headers, "Description"), Some("nope"));
        assert_eq!(value(&headers, "Retry-After"), Some("5"));
    }

    #[test]
    fn no_error_looks_as_if_nobody_listened() {
        let headers = error_headers(&RpcError::new("503", "busy"));
        assert_eq!(value(&headers, ERROR_CODE), Some("503"));
        assert_eq!(value(&headers, STATUS), Some("UNAVAILABLE"));
    }

    #[test]
    fn an_error_without_words_is_one() {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_CODE, "");
        headers.insert(ERROR, " ");
        let error = read_error(Some(&headers), &Bytes::new()).unwrap();
        assert_eq!((error.code(), error.message()), (code::INTERNAL, "no reason given"));
    }

    #[test]
    fn what_would_break_the_protocol_is_made_safe() {
        let error = RpcError::new("BAD\r\nX: y", "a\r\nb\0c");
        let headers = error_headers(&error);
        assert_eq!(value(&headers, ERROR_CODE), Some("BAD  X: y"));
        assert_eq!(value(&headers, ERROR), Some("a  b c"));
        let headers = error_headers(&RpcError::new("", " \n"));
        assert_eq!(value(&headers, ERROR_CODE), Some("INTERNAL"));
        assert_eq!(value(&headers, ERROR), Some("no reason given"));
        let headers = error_headers(&RpcError::internal("é".repeat(100_000)));
        assert_eq!(value(&headers, ERROR).unwrap().len(), LONGEST);
    }

    #[test]
    fn either_pair_is_read_and_no_other() {
        let read = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, *value);
            }
            let error = read_error(Some(&headers), &Bytes::from_static(b"body"))?;
            assert!(error.is_remote() && error.body() == "body" && error.headers().is_some());
            Some((error.code().to_owned(), error.message().to_owned()))
        };
        let told = |code: &str, text: &str| Some((code.to_owned(), text.to_owned()));
        assert_eq!(read(&[(ERROR_CODE, "X"), (ERROR, "why")]), told("X", "why"));
        assert_eq!(read(&[(STATUS, "X"), (DESCRIPTION, "why")]), told("X", "why"));
        assert_eq!(read(&[(ERROR_CODE, "X"), (STATUS, "Y")]), told("X", "no reason given"));
        assert_eq!(read(&[(ERROR, "why")]), told("INTERNAL", "why"));
        assert_eq!(read(&[("Trace", "1"), (DESCRIPTION, "fine")]), None);
        assert!(read_error(None, &Bytes::new()).is_none());
    }
}
