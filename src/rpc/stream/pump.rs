//! The task of a stream: it takes in what arrives whether anybody reads or not, says what the other
//! side is owed, and notices when the other side, or the connection, has gone. It never waits for
//! the application.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::channel::{Channel, Order};
use crate::pubsub::driver::Source;

pub(super) async fn pump(channel: Arc<Channel>, mut source: Box<dyn Source>) {
    let mut changes = channel.wire.changes();
    let mut sending: Option<BoxFuture<'static, ()>> = None;
    channel.look_for_refusal();
    loop {
        if sending.is_none() {
            match channel.order(Instant::now()) {
                Some(order) => sending = Some(Box::pin(send(channel.clone(), order))),
                None if channel.is_over() => return,
                None => {}
            }
        }
        let due = channel.due(sending.is_some());
        tokio::select! {
            message = poll_fn(|cx| source.poll_next(cx)) => match message {
                Some(message) => channel.take(message),
                None => {
                    channel.lose();
                    return;
                }
            },
            () = async {
                match &mut sending {
                    Some(sending) => sending.await,
                    None => pending().await,
                }
            } => sending = None,
            () = channel.orders.notified() => {}
            () = async {
                match &mut changes {
                    Some(changes) => drop(changes.changed().await),
                    None => pending().await,
                }
            } => if channel.was_lost() {
                take_rest(&channel, &mut source).await;
                channel.lose();
            } else {
                channel.look_for_refusal();
            },
            () = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            } => {
                // What is there already was in time.
                take_rest(&channel, &mut source).await;
                channel.look(Instant::now());
            }
        }
    }
}

async fn send(channel: Arc<Channel>, order: Order) {
    let Order { peer, headers } = order;
    let inbox = channel.inbox.clone();
    if let Err(error) = channel.wire.publish(peer, inbox, headers, Bytes::new()).await {
        tracing::debug!(%error, "a word to the other side of a stream is lost");
    }
}

/// Takes in what has arrived.
async fn take_rest(channel: &Channel, source: &mut Box<dyn Source>) {
    while let Poll::Ready(Some(message)) =
        unconstrained(poll_fn(|cx| Poll::Ready(source.poll_next(cx)))).await
    {
        channel.take(message);
    }
}
