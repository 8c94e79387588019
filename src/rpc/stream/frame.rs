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
