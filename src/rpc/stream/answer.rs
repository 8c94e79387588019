//! A call whose request is a stream, at its client.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::receiver::Wait;
use super::{Held, Sender};
use crate::rpc::{self, Codec, Response};

/// A call that takes many items and gives one response.
///
/// Dropped before it is [finished](Self::finish), the service's handler gets an error with
/// [`CANCELLED`](rpc::code::CANCELLED) behind the items that were sent.
pub struct ClientStream<Req, Res> {
    sender: Sender<Req>,
    held: Arc<Held>,
    response: Arc<dyn Codec<Res>>,
    idle: Option<Duration>,
}

impl<Req: 'static, Res: 'static> ClientStream<Req, Res> {
    pub(super) fn new(
        held: Arc<Held>,
        request: Arc<dyn Codec<Req>>,
        response: Arc<dyn Codec<Res>>,
        idle: Option<Duration>,
    ) -> Self {
        ClientStream { sender: Sender::new(held.clone(), request, true), held, response, idle }
    }

    /// Sends an item: [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`]. Where the service has answered before the end, this fails, and
    /// [`finish`](Self::finish) gives the answer.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the item was not sent, and the stream goes on.
    pub fn send(
        &mut self,
        item: Req,
    ) -> impl Future<Output = rpc::Result<()>> + Send + use<'_, Req, Res> {
        self.sender.send(item)
    }

    /// Says that this was all, and waits for the response. Limited by the call's time limit and its
    /// idle timeout.
    ///
    /// # Errors
    /// What the service answered; `UNAVAILABLE` when it, or the connection, is lost;
    /// `DEADLINE_EXCEEDED`; the error of a response that cannot be decoded.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the service may have all items.
    pub async fn finish(mut self) -> rpc::Result<Response<Res>> {
        let channel = self.held.channel();
        // Where the end cannot be told, the answer, or why there is none, is there already.
        let ended = self.sender.end().await;
        if let Err(error) = &ended
            && !channel.has_ended()
        {
            tracing::debug!(%error, "the end of a stream could not be told");
            channel.fail(super::faults::copy(error));
        }
        let mut wait = Wait::new(self.idle);
        let answer = poll_fn(|cx| match channel.poll_answer(cx) {
            Poll::Pending => wait.poll(channel, cx).map(|()| Err(wait.too_long(channel))),
            answer => answer,
        });
        let (headers, payload) = answer.await?;
        let message = self.response.decode(&payload)?;
        Ok(Response { message, headers })
    }
}

impl<Req, Res> fmt::Debug for ClientStream<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").finish_non_exhaustive()
    }
}
