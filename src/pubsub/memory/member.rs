//! A member of a durable consumer, as its owner holds it.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::seat::Found;
use super::store::{Store, Stream};
use crate::error::Result;
use crate::pubsub::driver::{ConsumerConfig, Deliveries, Delivery, DeliveryEvents, Start};

pub(super) struct Member {
    store: Arc<Store>,
    stream: Arc<Stream>,
    config: ConsumerConfig,
    /// Its seat in the stream.
    seat: u64,
    /// What it waits for a stream under.
    id: u64,
    state: Phase,
    events: DeliveryEvents,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Taking,
    /// It takes no more, and gives what it has.
    Drained,
    Ended,
}

impl Member {
    pub(super) fn new(
        store: &Arc<Store>,
        stream: Arc<Stream>,
        config: &ConsumerConfig,
        seat: u64,
    ) -> Self {
        Member {
            store: Arc::clone(store),
            stream,
            config: config.clone(),
            seat,
            id: store.next_id(),
            state: Phase::Taking,
            events: DeliveryEvents::default(),
        }
    }

    fn leave(&mut self) {
        self.state = Phase::Ended;
        self.stream.with(|state, now| state.leave(self.seat, &self.config.name, now));
        self.store.forget(self.id);
    }

    /// Joins the stream that took the place of the one that is gone; `false` while there is none.
    fn find_stream(&mut self, cx: &Context<'_>) -> bool {
        let found = match self.state {
            Phase::Taking => self.store.find_or_wait(&self.config.stream, self.id, cx.waker()),
            Phase::Drained | Phase::Ended => Ok(None),
        };
        match found {
            Ok(Some(stream)) => {
                // None of what it holds was seen before.
                let wanted = ConsumerConfig { start: Start::All, ..self.config.clone() };
                let before = stream.with(|state, _| state.consumers.len());
                let joined = stream.try_with(|state, _| {
                    let joined = state.join(&wanted, false)?;
                    Ok((joined.0, state.consumers.len() > before))
                });
                match joined {
                    Some(Ok((seat, made))) => {
                        (self.seat, self.stream) = (seat, stream);
                        self.rejoined(made);
                        true
                    }
                    // Deleted again meanwhile.
                    None => true,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a member of a consumer ends");
                        self.leave();
                        true
                    }
                }
            }
            Ok(None) if self.state == Phase::Taking => false,
            Ok(None) | Err(_) => {
                self.leave();
                true
            }
        }
    }

    fn rejoined(&mut self, made: bool) {
        if made {
            self.events.consumer_remade += 1;
            let (stream, consumer) = (&self.config.stream, &self.config.name);
            tracing::warn!(stream, consumer, "the consumer was deleted and is made again");
        } else {
            self.events.restarts += 1;
        }
    }
}

impl Deliveries for Member {
    fn poll_next(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if self.state == Phase::Ended {
                return Poll::Ready(None);
            }
            // What always has something to give must let others run, as Tokio's channels do.
            std::task::ready!(pin!(consume_budget()).poll(cx));
            let found = self.stream.with(|state, now| match state.gone {
                false => state.find(self.seat, &self.config, room, cx, now),
                true => Found::StreamGone,
            });
            match found {
                Found::Message(delivery) => return Poll::Ready(Some(delivery)),
                Found::Nothing => return Poll::Pending,
                Found::End => self.leave(),
                Found::Rejoined(made) => self.rejoined(made),
                Found::StreamGone => {
                    if !self.find_stream(cx) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn drain(&mut self, _deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.state == Phase::Taking {
                self.state = Phase::Drained;
                self.stream.with(|state, _| state.drain(self.seat, &self.config.name));
                self.store.forget(self.id);
            }
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.leave() })
    }

    fn events(&self) -> DeliveryEvents {
        self.events
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}
