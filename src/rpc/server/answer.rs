//! How answers and errors go out.

use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

use crate::deadline::after;
use crate::error::{ErrorKind, Result};
use crate::pubsub::driver::InboundMessage;
use crate::rpc::error::error_headers;
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
}

impl To {
    pub(super) fn of(message: &InboundMessage, kind: Kind) -> Self {
        let stream = match kind {
            Kind::Unary => None,
            _ => message.headers.as_ref().and_then(|headers| headers.get(REPLY_TO)),
        };
        To { reply: message.reply.clone(), stream: stream.map(|inbox| inbox.as_str().into()) }
    }
}

/// Sends a response, if somebody waits for it.
pub(super) async fn reply(rpc: &Rpc, to: &To, reply: &Reply) -> Result<()> {
    let Some(subject) = &to.reply else { return Ok(()) };
    send(rpc, subject, reply.headers.as_ref(), &reply.payload).await
}

/// Sends an error: to the reply subject, and as the end of its stream to the inbox.
pub(super) async fn error(rpc: &Rpc, to: To, error: &RpcError) -> Result<()> {
    let mut headers = error_headers(error);
    let To { reply, stream } = to;
    if let Some(inbox) = stream {
        headers.insert(STREAM_END, "true");
        send_error(rpc, &inbox, &mut headers, error.body()).await?;
        if reply.as_ref() == Some(&inbox) {
            return Ok(());
        }
    }
    match reply {
        Some(subject) => send_error(rpc, &subject, &mut headers, error.body()).await,
        None => Ok(()),
    }
}

/// A body that does not fit stays behind, then headers of the handler's own: the error itself goes.
async fn send_error(rpc: &Rpc, to: &Subject, headers: &mut HeaderMap, body: &Bytes) -> Result<()> {
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
