//! The end of a stream that items go into.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::Held;
use crate::rpc::{self, Codec, RpcError};

/// Sends the items of a stream.
///
/// Dropped at a client without [`finish`](Self::finish), the stream breaks off: the service gets what
/// was sent, and then an error with [`CANCELLED`](rpc::code::CANCELLED), never an end. At a service the
/// handler's return ends the stream.
pub struct Sender<T> {
    held: Arc<Held>,
    codec: Arc<dyn Codec<T>>,
    /// A client's stream breaks off when this is dropped.
    breaks_off: bool,
}

impl<T: 'static> Sender<T> {
    pub(super) fn new(held: Arc<Held>, codec: Arc<dyn Codec<T>>, breaks_off: bool) -> Self {
        Sender { held, codec, breaks_off }
    }

    /// Sends an item, as soon as the other side has room for it: done when the connection has taken
    /// it. A peer that gives no credit is not waited for.
    ///
    /// # Errors
    /// `CANCELLED` when the other side has gone, or reads no more items; at a client the error by which
    /// the service ended the call. All later calls fail too then. `INVALID_ARGUMENT` for an item that
    /// cannot be encoded or is above the server's payload limit, and `UNAVAILABLE` or
    /// `DEADLINE_EXCEEDED` while the connection takes nothing: the item was not sent, and the stream
    /// goes on.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the item was not sent, and the stream goes on.
    pub fn send(&mut self, item: T) -> impl Future<Output = rpc::Result<()>> + Send + use<'_, T> {
        let encoded = self.codec.encode(&item);
        drop(item);
        let channel = self.held.channel();
        async move { channel.send(encoded?).await }
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// As [`send`](Self::send): where the end could not be told, the other side gets an error in its
    /// place.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the stream breaks off.
    pub async fn finish(mut self) -> rpc::Result<()> {
        self.end().await
    }

    pub(super) async fn end(&mut self) -> rpc::Result<()> {
        self.held.channel().finish().await
    }

    /// Waits until nothing can be sent any more, and says why: the other side has gone, or reads no
    /// more. For handlers that wait for something else than room.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn closed(&self) -> RpcError {
        self.held.channel().broken().await
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.breaks_off {
            self.held.channel().abandon();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
