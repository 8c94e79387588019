//! The end of a stream that items come out of.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};
use tokio::time::{Sleep, sleep};

use super::channel::Channel;
use super::{Held, IDLE, faults};
use crate::rpc::{self, Codec};

/// Receives the items of a stream, in order and complete: `None` comes only behind the last one, and
/// whatever else ends the stream is an error behind the items that came before it.
///
/// Also a `Stream`. Dropped before the end, it tells the other side, whose sends fail then.
pub struct Receiver<T> {
    held: Arc<Held>,
    codec: Arc<dyn Codec<T>>,
    wait: Wait,
    ended: bool,
}

impl<T: 'static> Receiver<T> {
    pub(super) fn new(held: Arc<Held>, codec: Arc<dyn Codec<T>>, idle: Option<Duration>) -> Self {
        Receiver { held, codec, wait: Wait::new(idle), ended: false }
    }

    /// The next item. `None`: that was all; after an error too.
    ///
    /// # Errors
    /// What the other side ended the stream with; at a client `UNAVAILABLE` when nobody serves the
    /// method, the service or the connection is lost, or items are; at a service `CANCELLED` when the
    /// caller has gone. `DEADLINE_EXCEEDED` after the time limit, `RESOURCE_EXHAUSTED` when too much
    /// came from a sender that does not wait, and the error of an item that cannot be decoded.
    ///
    /// # Cancel safety
    /// No item is lost when this is dropped.
    pub async fn next(&mut self) -> Option<rpc::Result<T>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<rpc::Result<T>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let channel = self.held.channel();
        let item = match channel.poll_item(cx) {
            Poll::Ready(Some(Ok(payload))) => {
                self.wait.over();
                self.codec.decode(&payload).map_err(|error| {
                    channel.stop_reading("an item could not be decoded");
                    error.into()
                })
            }
            Poll::Ready(Some(Err(error))) => Err(error),
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                if self.wait.poll(channel, cx).is_pending() {
                    return Poll::Pending;
                }
                Err(self.wait.too_long(channel))
            }
        };
        self.ended = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl<T: 'static> Stream for Receiver<T> {
    type Item = rpc::Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<rpc::Result<T>>> {
        self.poll(cx)
    }
}

impl<T: 'static> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.held.channel().stop_reading("the items are read no more");
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// How long to wait for something to come.
#[derive(Debug)]
pub(super) struct Wait {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Wait { limit, timer: None }
    }

    fn over(&mut self) {
        self.timer = None;
    }

    fn limit(&self) -> Duration {
        self.limit.unwrap_or(IDLE)
    }

    /// Ready when it has taken too long. Without a limit of its own a peer with a heartbeat has all
    /// the time.
    pub(super) fn poll(&mut self, channel: &Channel, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit();
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.limit.is_some() || !channel.has_heartbeat() {
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }

    pub(super) fn too_long(&mut self, channel: &Channel) -> rpc::RpcError {
        self.over();
        let error = faults::idle(self.limit());
        channel.fail(faults::copy(&error));
        error
    }
}
