//! What answers the calls of an endpoint, and what it is given of each.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::running::Running;
use crate::rpc::{RawCall, Reply, Result, Served};

/// One call as an endpoint gets it.
pub(crate) struct Incoming {
    /// Message, method and deadline.
    pub(crate) call: RawCall,
    /// The endpoint: its handle, counters and subscription.
    pub(crate) endpoint: Arc<Running>,
}

/// Answers the calls of an endpoint.
///
/// What it gives is sent by who runs it: a reply, or an error, also when its time is up, it panics
/// (it is then dropped) or an interceptor refuses. A streaming one sends its frames itself, and gives
/// `Streamed` after the last; its errors are sent as the end of the stream.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Answers one call.
    fn serve(&self, incoming: Incoming) -> impl Future<Output = Result<Served>> + Send;
}

/// What is to be done with a reply beside sending it. Its place at the endpoint is held, and a drain
/// waits, until it is done.
pub(crate) trait Keep: Send + Sync {
    /// Before it is sent; an error is sent in its place. It may add headers.
    fn before<'a>(&'a mut self, reply: &'a mut Reply) -> BoxFuture<'a, Result<()>>;

    /// After it was sent.
    fn after(self: Box<Self>, reply: Reply) -> BoxFuture<'static, ()>;
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("call", &self.call).finish_non_exhaustive()
    }
}
