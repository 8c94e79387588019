//! The messages of a stream: what their headers say.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;

use crate::pubsub::driver::InboundMessage;
use crate::pubsub::headers::without;
use crate::pubsub::subject::check_publish;
use crate::rpc::RpcError;
use crate::rpc::error::{ERROR, ERROR_CODE, read_error};

/// Where frames for the caller go; in the message that opens a stream.
pub(super) const REPLY_TO: HeaderName = HeaderName::from_static("Reply-To");
/// Where frames for whoever sends this go.
pub(super) const INBOX: HeaderName = HeaderName::from_static("Nats-Stream-Inbox");
/// The number of an item, from 1. With a heartbeat or an end: the number of the last one so far.
pub(super) const SEQ: HeaderName = HeaderName::from_static("Nats-Stream-Seq");
/// No item follows.
pub(super) const END: HeaderName = HeaderName::from_static("Nats-Stream-End");
/// Ours: the number of the last item that may be sent to whoever sends this.
pub(super) const CREDIT: HeaderName = HeaderName::from_static("Nats-Stream-Credit");
/// Ours: whoever sends this does so again within that many milliseconds, for as long as the stream
/// lasts. It also says that the sender knows all of these headers.
pub(super) const HEARTBEAT: HeaderName = HeaderName::from_static("Nats-Stream-Heartbeat");
/// Ours: whoever sends this reads no further item; why.
pub(super) const CANCEL: HeaderName = HeaderName::from_static("Nats-Stream-Cancel");
const STATUS: HeaderName = HeaderName::from_static("Status");
const DESCRIPTION: HeaderName = HeaderName::from_static("Description");

/// The status of an answer that says that nobody received a message.
const NOBODY: &str = "503";

/// A frame as it arrives.
#[derive(Debug)]
pub(super) enum Frame {
    Item {
        seq: u64,
        payload: Bytes,
    },
    /// The end, after the item with this number where the sender tells it.
    End {
        last: Option<u64>,
    },
    /// The end, by an error.
    Failed(RpcError),
    Control(Control),
    /// Nobody received something that was sent from here.
    Nobody,
    /// No frame: the answer to a whole stream.
    Answer {
        headers: HeaderMap,
        payload: Bytes,
    },
    /// Nothing that can stand in a stream; what is wrong with it.
    Bad(&'static str),
}

/// What is not about the stream's own items.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) inbox: Option<Subject>,
    pub(super) last: Option<u64>,
    pub(super) credit: Option<u64>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) cancel: Option<String>,
}

impl Frame {
    pub(super) fn parse(message: InboundMessage) -> Frame {
        let InboundMessage { headers, payload, .. } = message;
        let Some(headers) = headers else {
            return Frame::Answer { headers: HeaderMap::new(), payload };
        };
        if let Some(error) = read_error(Some(&headers), &payload) {
            if is_nobody(&headers, &payload) {
                return Frame::Nobody;
            }
            return Frame::Failed(error.remote(Some(of_the_user(&headers))));
        }
        let control = match Control::of(&headers) {
            Ok(control) => control,
            Err(problem) => return Frame::Bad(problem),
        };
        if text(&headers, END).is_some() {
            return Frame::End { last: control.last };
        }
        if control.heartbeat.is_some() || control.inbox.is_some() {
            return Frame::Control(control);
        }
        match control.last {
            Some(0) => Frame::Bad("an item has the number 0; they begin with 1"),
            Some(seq) => Frame::Item { seq, payload },
            None => Frame::Answer { headers, payload },
        }
    }
}

impl Control {
    /// What the headers of a frame, or of the message that opens a stream, say.
    pub(super) fn of(headers: &HeaderMap) -> Result<Control, &'static str> {
        let inbox = match text(headers, INBOX) {
            Some(inbox) => Some(subject(inbox).ok_or("the inbox of the stream is no subject")?),
            None => None,
        };
        Ok(Control {
            inbox,
            last: number(headers, SEQ)?,
            credit: number(headers, CREDIT)?,
            heartbeat: number(headers, HEARTBEAT)?.map(Duration::from_millis),
            cancel: text(headers, CANCEL).map(str::to_owned),
        })
    }

    /// Writes it into headers.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Some(inbox) = &self.inbox {
            headers.insert(INBOX, cleaned(inbox));
        }
        if let Some(last) = self.last {
            headers.insert(SEQ, HeaderValue::from(last));
        }
        if let Some(credit) = self.credit {
            headers.insert(CREDIT, HeaderValue::from(credit));
        }
        if let Some(every) = self.heartbeat {
            let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
            headers.insert(HEARTBEAT, HeaderValue::from(every));
        }
        if let Some(why) = &self.cancel {
            headers.insert(CANCEL, cleaned(why));
        }
    }
}

/// The headers of an item.
pub(super) fn item(seq: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(SEQ, HeaderValue::from(seq));
    headers
}

/// The headers of the end; with the number of the last item for a receiver that looks at it.
pub(super) fn end(last: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(END, HeaderValue::from("true"));
    if let Some(last) = last {
        headers.insert(SEQ, HeaderValue::from(last));
    }
    headers
}

/// The server's own word: no error of a service, which says more than a status.
fn is_nobody(headers: &HeaderMap, payload: &Bytes) -> bool {
    text(headers, STATUS) == Some(NOBODY)
        && payload.is_empty()
        && text(headers, DESCRIPTION).is_none()
        && headers.get(ERROR_CODE).is_none()
        && headers.get(ERROR).is_none()
}

/// Headers but for those of streams.
fn of_the_user(headers: &HeaderMap) -> HeaderMap {
    without(headers, |name| name.starts_with("Nats-Stream-"))
}

/// The subject that a header names, if it can be published to.
pub(super) fn subject(text: &str) -> Option<Subject> {
    check_publish(text).is_ok().then(|| Subject::from(text))
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(HeaderValue::as_str)
}

fn number(headers: &HeaderMap, name: HeaderName) -> Result<Option<u64>, &'static str> {
    match text(headers, name) {
        Some(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err("a number in the headers of the stream is none"),
        },
        None => Ok(None),
    }
}

/// A header's value without what would end it.
fn cleaned(text: &str) -> HeaderValue {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(pairs: &[(&str, &str)], payload: &'static str) -> InboundMessage {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, *value);
        }
        let headers = (!pairs.is_empty()).then_some(headers);
        InboundMessage { subject: "i".into(), reply: None, headers, payload: payload.into() }
    }

    fn parsed(pairs: &[(&str, &str)], payload: &'static str) -> Frame {
        Frame::parse(message(pairs, payload))
    }

    /// Frames as the plugin's programs send them.
    #[test]
    fn captured_frames_are_read() {
        let Frame::Item { seq: 7, payload } = parsed(&[("Nats-Stream-Seq", "7")], "x") else {
            panic!("an item");
        };
        assert_eq!(payload, "x");
        let end = ("Nats-Stream-End", "true");
        assert!(matches!(parsed(&[end], ""), Frame::End { last: None }));
        let pairs = [
            [("Nats-Service-Error-Code", "NOT_FOUND"), ("Nats-Service-Error", "nope")],
            [("Status", "NOT_FOUND"), ("Description", "nope")],
        ];
        for pair in pairs {
            for pairs in [vec![pair[0], pair[1], end], pair.to_vec()] {
                let Frame::Failed(error) = parsed(&pairs, "body") else { panic!("an error") };
                assert_eq!((error.code(), error.message()), ("NOT_FOUND", "nope"));
                assert!(error.is_remote() && error.body() == "body");
                let own = error.headers().unwrap();
                assert!(own.get("Nats-Stream-End").is_none());
            }
        }
        let Frame::Control(ack) = parsed(&[("Nats-Stream-Inbox", "_INBOX.a")], "") else {
            panic!("an acknowledgement");
        };
        assert_eq!(ack, Control { inbox: Some("_INBOX.a".into()), ..Control::default() });
        assert!(matches!(parsed(&[], "60"), Frame::Answer { .. }));
        assert!(matches!(parsed(&[("X", "y")], "60"), Frame::Answer { .. }));
    }

    #[test]
    fn the_servers_own_word_is_no_error_of_a_service() {
        assert!(matches!(parsed(&[("Status", "503")], ""), Frame::Nobody));
        let more = [("Status", "503"), ("Nats-Subject", "a.b")];
        assert!(matches!(parsed(&more, ""), Frame::Nobody));
        assert!(matches!(parsed(&[("Status", "503")], "x"), Frame::Failed(_)));
        let told = [("Status", "503"), ("Description", "busy")];
        assert!(matches!(parsed(&told, ""), Frame::Failed(_)));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for pairs in [
            ("Nats-Stream-Seq", "0"),
            ("Nats-Stream-Seq", "-1"),
            ("Nats-Stream-Seq", "one"),
            ("Nats-Stream-Credit", "99999999999999999999"),
            ("Nats-Stream-Inbox", "a.*"),
            ("Nats-Stream-Inbox", ""),
        ] {
            assert!(matches!(parsed(&[pairs], ""), Frame::Bad(_)), "{pairs:?}");
        }
    }

    #[test]
    fn what_is_written_for_peers_of_other_make_is_as_captured() {
        let pairs = |headers: HeaderMap| -> Vec<(String, String)> {
            let pair = |(name, values): (&HeaderName, &Vec<HeaderValue>)| {
                (name.to_string(), values[0].to_string())
            };
            headers.iter().map(pair).collect()
        };
        assert_eq!(pairs(item(3)), [("Nats-Stream-Seq".to_owned(), "3".to_owned())]);
        assert_eq!(pairs(end(None)), [("Nats-Stream-End".to_owned(), "true".to_owned())]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            inbox in proptest::option::of("[a-z]{1,5}(\\.[a-z]{1,5}){0,3}"),
            last in any::<Option<u64>>(),
            credit in any::<Option<u64>>(),
            beat in 0_u64..1_000_000_000,
            cancel in proptest::option::of("[ -~]{0,20}"),
        ) {
            let control = Control {
                inbox: inbox.map(Subject::from),
                last,
                credit,
                heartbeat: Some(Duration::from_millis(beat)),
                cancel: cancel.map(|text| text.trim().to_owned()),
            };
            let mut headers = HeaderMap::new();
            control.write(&mut headers);
            prop_assert_eq!(Control::of(&headers).unwrap(), control);
        }

        #[test]
        fn nothing_panics(
            pairs in proptest::collection::vec(
                (
                    proptest::sample::select(vec![
                        "Nats-Stream-Seq", "Nats-Stream-End", "Nats-Stream-Inbox", "Status",
                        "Nats-Stream-Credit", "Nats-Stream-Heartbeat", "Nats-Stream-Cancel",
                        "Description", "Nats-Service-Error-Code", "Nats-Service-Error", "X",
                    ]),
                    "[^\r\n]{0,12}",
                ),
                0..6,
            ),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &pairs {
                headers.append(*name, value.as_str());
            }
            let payload = Bytes::new();
            let (subject, reply) = ("i".into(), None);
            let headers = Some(headers);
            let _ = Frame::parse(InboundMessage { subject, reply, headers, payload });
        }
    }
}
