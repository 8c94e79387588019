//! How answers and errors go out.

use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

use crate::deadline::after;
use crate::error::{ErrorKind, Result};
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::subject::check_publish;
use crate::rpc::error::error_headers;
use crate::rpc::stream::send_until_heard;
use crate::rpc::{Kind, Reply, Rpc, RpcError};

/// Names the inbox that the frames of a stream go to.
const REPLY_TO: &str = "Reply-To";
/// Marks the last frame of a stream.
const STREAM_END: &str = "Nats-Stream-End";

/// How often an answer is tried again while the connection is down.
const AGAIN: Duration = Duration::from_millis(100);

/// Who waits for the answer to a call.
pub(super) struct To {
    /// The reply subject of its message.
    reply: Option<Subject>,
    /// The inbox of its stream.
    stream: Option<Subject>,
    /// What goes there is a stream, too, and not one response.
    ends: bool,
}

impl To {
    pub(super) fn of(message: &InboundMessage, kind: Kind) -> Self {
        let stream = match kind {
            Kind::Unary => None,
            _ => message.headers.as_ref().and_then(|headers| headers.get(REPLY_TO)),
        };
        // One that nothing can be sent to is none.
        let stream = stream.filter(|inbox| check_publish(inbox.as_str()).is_ok());
        let stream = stream.map(|inbox| inbox.as_str().into());
        let ends = matches!(kind, Kind::ServerStream | Kind::Bidi);
        To { reply: message.reply.clone(), stream, ends }
    }
}

/// Sends a response, if somebody waits for it.
pub(super) async fn reply(rpc: &Rpc, to: &To, reply: &Reply) -> Result<()> {
    let Some(subject) = &to.reply else { return Ok(()) };
    send(rpc, subject, reply.headers.as_ref(), &reply.payload).await
}

/// Sends an error: to the reply subject, and to the inbox of its stream, where it is the end of what
/// the service sends.
pub(super) async fn error(rpc: &Rpc, to: To, error: &RpcError) -> Result<()> {
    let headers = error_headers(error);
    let To { reply, stream, ends } = to;
    let mut sent = Ok(());
    if let Some(inbox) = &stream {
        let mut headers = headers.clone();
        if ends {
            headers.insert(STREAM_END, "true");
        }
        sent = if error.is_until_heard()
            && send_until_heard(rpc, inbox, &headers, error.body()).await.is_ok()
        {
            Ok(())
        } else {
            send_error(rpc, inbox, &headers, error.body()).await
        };
    }
    match reply.filter(|reply| stream.as_ref() != Some(reply)) {
        Some(subject) => sent.and(send_error(rpc, &subject, &headers, error.body()).await),
        None => sent,
    }
}

/// A body that does not fit stays behind: the error itself goes.
async fn send_error(rpc: &Rpc, to: &Subject, headers: &HeaderMap, body: &Bytes) -> Result<()> {
    match send(rpc, to, Some(headers), body).await {
        Err(error) if error.kind() == ErrorKind::TooLarge => {
            send(rpc, to, Some(headers), &Bytes::new()).await
        }
        sent => sent,
    }
}

/// Publishes to a full subject. While the connection is lost it is tried again within the handle's
/// time limit: the caller still waits on a connection of its own.
async fn send(rpc: &Rpc, to: &Subject, headers: Option<&HeaderMap>, body: &Bytes) -> Result<()> {
    let pubsub = rpc.pubsub();
    let publish = || {
        let publish = pubsub.publish_bytes(to.clone(), body.clone()).ignore_prefix();
        match headers {
            Some(headers) => publish.headers(headers),
            None => publish,
        }
    };
    let first = match publish().await {
        Err(error) if error.kind() == ErrorKind::Unavailable => error,
        sent => return sent,
    };
    let deadline = after(pubsub.default_timeout()?);
    let mut last = first;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(AGAIN).await;
        match publish().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => last = error,
            sent => return sent,
        }
    }
    Err(last)
}
