//! Calls whose requests, responses or both are streams.
//!
//! A stream is never cut short in silence: its reader gets every item in order and then the end, or
//! an error that says why it did not. A sender is held back while its peer has no room
//! ([`Method::window`](super::Method::window)); either side notices when the other has gone.
//!
//! # On the wire
//! Frames are messages to an inbox of the receiver, told apart by headers, as protoc-gen-nats-micro
//! has them:
//!
//! - `Reply-To` in the message that opens a stream: where frames for the client go. A client of this
//!   crate makes it the reply subject too, so that what goes wrong comes in the stream.
//! - `Nats-Stream-Inbox` in the service's first frame: where frames for the service go.
//! - `Nats-Stream-Seq`: the number of an item, from 1.
//! - `Nats-Stream-End: true`: no item follows. With `Nats-Service-Error-Code` and
//!   `Nats-Service-Error`, and the same as `Status` and `Description` for readers in Python and
//!   TypeScript, the stream has failed. An error without an end ends the stream as well.
//!
//! Clients that are generated for Go listen for the response to their stream only once they have ended
//! it. A service answers them, with errors too, only then, and again while nobody listens, for 5 s.
//!
//! Three headers are this crate's own; they are sent only to a peer that has sent
//! `Nats-Stream-Heartbeat` first, which a client does in the message that opens the stream:
//!
//! - `Nats-Stream-Heartbeat: <ms>`: whoever sends this frame sends one as often as that, and knows
//!   these headers. `Nats-Stream-Seq` beside it, and beside the end, is the number of its last item.
//! - `Nats-Stream-Credit: <number>`: the number of the last item that may be sent to whoever sends
//!   this.
//! - `Nats-Stream-Cancel: <why>`: whoever sends this reads no further item.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

use self::channel::Channel;
use super::{Method, Rpc};
use crate::error::{Error, ErrorKind};

mod answer;
mod channel;
mod client;
mod endpoint;
mod faults;
mod frame;
mod open;
mod pump;
mod receiver;
mod sender;
mod server;
mod wire;

pub use answer::ClientStream;
pub use open::Open;
pub use receiver::Receiver;
pub use sender::Sender;

/// How often each side says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long to wait for an item of a peer without a heartbeat.
const IDLE: Duration = Duration::from_secs(300);
/// The most that waits to be read, of a peer that does not wait itself.
const MAX_BUFFERED: usize = 65_536;
const MAX_BUFFERED_BYTES: usize = 64 * 1024 * 1024;

/// How many items a stream may be ahead of its reader, unless its method says.
const WINDOW: u32 = 256;
const MAX_WINDOW: u32 = 65_536;

/// Sends an error to a caller that may begin to listen for it only now.
pub(super) async fn send_until_heard(
    rpc: &Rpc,
    to: &Subject,
    headers: &HeaderMap,
    body: &Bytes,
) -> crate::Result<()> {
    wire::Wire::of(rpc)?.publish_until_heard(to, headers, body).await
}

fn window_of<Req, Res>(method: &Method<Req, Res>) -> u64 {
    u64::from(method.0.window.unwrap_or(WINDOW))
}

/// Refuses a window that is too large.
pub(super) fn check_window(method: &str, window: Option<u32>) -> crate::Result<()> {
    match window {
        Some(window) if window > MAX_WINDOW => {
            let text = format!("the window is {window}; give 1 to {MAX_WINDOW}");
            Err(Error::new(ErrorKind::InvalidInput, text).with("method", method))
        }
        _ => Ok(()),
    }
}

/// A channel that closes when the last end of its stream is gone.
#[derive(Debug)]
struct Held(Arc<Channel>);

impl Held {
    fn channel(&self) -> &Channel {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close();
    }
}
