//! A message as streams store it. The client keeps only the last value of a header that was given
//! several times, so headers are read here.

use std::str;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;

use crate::error::BoxError;

/// A stored message with all its headers.
pub(crate) fn read_message(mut raw: RawMessage) -> Result<StreamMessage, BoxError> {
    // As a payload they are only decoded from Base64.
    let headers = raw.headers.take().map(|payload| RawMessage { payload, ..raw.clone() });
    let mut message = StreamMessage::try_from(raw)?;
    if let Some(headers) = headers {
        message.headers = read_headers(&StreamMessage::try_from(headers)?.payload)?;
    }
    Ok(message)
}

/// Headers as they go over the wire: a line with the version, then one for each value.
fn read_headers(block: &[u8]) -> Result<HeaderMap, BoxError> {
    let mut lines = str::from_utf8(block)?.split("\r\n");
    if !lines.next().is_some_and(|line| line.starts_with("NATS/1.0")) {
        return Err("the headers do not begin with their version".into());
    }
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or("a header has no colon")?;
        headers.append(
            name.parse::<async_nats::HeaderName>()?,
            value.trim().parse::<async_nats::HeaderValue>()?,
        );
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_header_is_kept() {
        let read = read_headers("NATS/1.0\r\nA: 1\r\nB:é: x\r\nA: 2\r\nEmpty:\r\n\r\n".as_bytes());
        let headers = read.unwrap();
        let all = |name: &str| -> Vec<String> {
            headers.get_all(name).map(|value| value.as_str().to_owned()).collect()
        };
        assert_eq!((all("A"), all("B")), (vec!["1".into(), "2".into()], vec!["é: x".into()]));
        assert_eq!(all("Empty"), [""]);
        assert!(read_headers(b"NATS/1.0\r\n\r\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for block in [&b""[..], b"A: 1\r\n", b"NATS/1.0\r\nA\r\n", b"\xff"] {
            read_headers(block).unwrap_err();
        }
    }
}
