//! The place of one member of a consumer in the state of its stream.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use async_nats::Subject;
use tokio::time::Instant;

use super::stream::State;
use crate::pubsub::driver::{ConsumerConfig, Delivery};

/// What a consumer dealt to a member, and how the member is told.
#[derive(Default)]
pub(super) struct Seat {
    /// The consumer, by its id: the member may outlive it.
    pub(super) consumer: u64,
    /// How many more messages may be dealt to it.
    pub(super) room: usize,
    /// Whether it waits for its turn.
    pub(super) queued: bool,
    pub(super) inbox: VecDeque<Arrived>,
    pub(super) waker: Option<Waker>,
    /// It takes no more.
    drained: bool,
    /// Where its consumer, which is gone, is to begin when it is made again.
    pub(super) floor: Option<u64>,
}

/// A message that was dealt to a member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) sequence: u64,
    pub(super) deliveries: u64,
    pub(super) pending: u64,
}

/// What a member finds.
#[expect(clippy::large_enum_variant, reason = "moved once, to whom it is for")]
pub(super) enum Found {
    Message(Delivery),
    Nothing,
    End,
    /// Its consumer was deleted and is made again; `true` when this member did that.
    Rejoined(bool),
    StreamGone,
}

impl State {
    /// Makes room for a new member of a consumer that is there.
    pub(super) fn seat(&mut self, consumer: u64) -> u64 {
        let id = self.next_id();
        self.seats.insert(id, Seat { consumer, ..Seat::default() });
        id
    }

    /// What there is for a member that can take `room` messages.
    pub(super) fn find(
        &mut self,
        id: u64,
        config: &ConsumerConfig,
        room: usize,
        cx: &Context<'_>,
        now: Instant,
    ) -> Found {
        let Some(seat) = self.seats.get(&id) else { return Found::End };
        let present = self.consumers.get(&config.name).map(|consumer| consumer.id);
        if present != Some(seat.consumer) {
            return self.rejoin(id, config, cx);
        }
        if let Some(delivery) = self.take(id, config, room) {
            return Found::Message(delivery);
        }
        // Nothing is there for it yet: it queues for its turn, which may be now.
        let (Some(seat), Some(consumer)) =
            (self.seats.get_mut(&id), self.consumers.get_mut(&config.name))
        else {
            return Found::End;
        };
        if !seat.drained {
            seat.room = room.saturating_sub(seat.inbox.len());
            consumer.queue(id, seat);
            consumer.deal(&self.log, &mut self.seats, now, &mut self.wake);
            if let Some(delivery) = self.take(id, config, room) {
                return Found::Message(delivery);
            }
        }
        match self.seats.get_mut(&id) {
            Some(seat) if !seat.drained || !seat.inbox.is_empty() => {
                wait(&mut seat.waker, cx);
                Found::Nothing
            }
            _ => Found::End,
        }
    }

    /// Takes the first message that was dealt to a member and still stands.
    fn take(&mut self, id: u64, config: &ConsumerConfig, room: usize) -> Option<Delivery> {
        let seat = self.seats.get_mut(&id)?;
        let consumer = self.consumers.get(&config.name)?;
        loop {
            let arrived = seat.inbox.pop_front()?;
            let standing = consumer.stands(&arrived);
            if let Some(entry) = self.log.get(arrived.sequence).filter(|_| standing) {
                if !seat.drained {
                    seat.room = room.saturating_sub(1 + seat.inbox.len());
                }
                return Some(Delivery {
                    message: entry.message.clone(),
                    receipt: receipt(&config.stream, self.id, &config.name, &arrived),
                    sequence: arrived.sequence,
                    deliveries: arrived.deliveries,
                    stored: self.clock.system(entry.stored),
                    pending: arrived.pending,
                });
            }
        }
    }

    /// Makes the consumer again that was deleted, or joins the one that took its place.
    fn rejoin(&mut self, id: u64, config: &ConsumerConfig, cx: &Context<'_>) -> Found {
        let Some(seat) = self.seats.get_mut(&id) else { return Found::End };
        if seat.drained {
            return Found::End;
        }
        let floor = seat.floor;
        let found = self.consumers.get(&config.name).map(|consumer| consumer.id);
        let consumer = match found {
            Some(consumer) => consumer,
            None => match self.make_consumer(config, floor.unwrap_or(1)) {
                Ok(consumer) => consumer,
                Err(error) => {
                    // Another consumer took its messages; told once, and tried when that is gone.
                    if self.refused.insert(id) {
                        tracing::warn!(%error, "a deleted consumer cannot be made again");
                    }
                    if let Some(seat) = self.seats.get_mut(&id) {
                        wait(&mut seat.waker, cx);
                    }
                    return Found::Nothing;
                }
            },
        };
        self.refused.remove(&id);
        self.seats.insert(id, Seat { consumer, ..Seat::default() });
        Found::Rejoined(found.is_none())
    }

    /// A member takes no more; it still gets what it has.
    pub(super) fn drain(&mut self, id: u64, name: &str) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.drained = true;
            seat.room = 0;
            seat.queued = false;
            self.wake.extend(seat.waker.take());
        }
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.unqueue(id);
        }
    }

    /// A member leaves; what it has goes to the others.
    pub(super) fn leave(&mut self, id: u64, name: &str, now: Instant) {
        self.refused.remove(&id);
        let Some(mut seat) = self.seats.remove(&id) else { return };
        self.wake.extend(seat.waker.take());
        let consumer = self.consumers.get_mut(name).filter(|it| it.id == seat.consumer);
        if let Some(consumer) = consumer {
            consumer.unqueue(id);
            for arrived in &seat.inbox {
                consumer.take_back(arrived, now);
            }
        }
    }
}

/// Keeps the waker of the task that asked last.
fn wait(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

/// What a delivery is known by: as a nats-server's, with what tells one stream from another of the
/// same name.
fn receipt(stream: &str, id: u64, consumer: &str, arrived: &Arrived) -> Subject {
    let Arrived { sequence, deliveries, .. } = arrived;
    Subject::from(format!("$JS.ACK.{stream}.{consumer}.{deliveries}.{sequence}.{id}"))
}

/// Stream, consumer, sequence and id of the stream.
pub(super) fn read_receipt(receipt: &str) -> Option<(&str, &str, u64, u64)> {
    let mut parts = receipt.strip_prefix("$JS.ACK.")?.split('.');
    let (stream, consumer, _) = (parts.next()?, parts.next()?, parts.next()?);
    Some((stream, consumer, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
