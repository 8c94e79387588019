//! Opening a stream at a client.

use std::sync::Arc;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::time::Instant;

use super::channel::{Channel, Side, Start};
use super::frame::{Control, REPLY_TO};
use super::pump::pump;
use super::wire::Wire;
use super::{HEARTBEAT, Held};
use crate::rpc;

/// A stream to open.
pub(super) struct Opening {
    pub(super) wire: Wire,
    pub(super) subject: Subject,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How many items the service may be ahead of the reader; `None`: it sends one answer.
    pub(super) window: Option<u64>,
    /// Whether items go to the service, which has to say where.
    pub(super) sends: bool,
    /// When all of it must be over.
    pub(super) deadline: Option<Instant>,
}

/// Subscribes to an inbox, sends the message that opens the stream, and waits for the service to
/// accept it where items go to it.
pub(super) async fn open(opening: Opening) -> rpc::Result<Arc<Held>> {
    let Opening { wire, subject, mut headers, body, window, sends, deadline } = opening;
    let inbox = wire.new_inbox()?;
    let source = wire.subscribe(&inbox).await?;
    let said = Control { credit: window, heartbeat: Some(HEARTBEAT), ..Control::default() };
    said.write(&mut headers);
    headers.insert(REPLY_TO, inbox.as_str());
    wire.forget_refusal(&subject);
    wire.publish(subject.clone(), Some(inbox.clone()), headers, body).await?;
    let channel = Arc::new(Channel::new(
        wire.clone(),
        Start {
            side: Side::Client,
            inbox: Some(inbox),
            opened: Some(subject),
            peer: None,
            said: Control::default(),
            window,
            deadline,
            past: wire.past(),
        },
    ));
    tokio::spawn(pump(channel.clone(), source));
    let held = Arc::new(Held(channel));
    if sends {
        held.channel().greeted().await?;
    }
    Ok(held)
}
