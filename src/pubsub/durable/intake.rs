//! What a member has and its handlers take from: one place, so that no message is handed from task
//! to task. A handler that finds nothing waits for the source itself, and puts what is for others
//! where they find it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;

use super::delivered::{Consumer, Delivered};
use super::lanes::Lanes;
use super::room::Room;
use crate::pubsub::driver::{Deliveries, Delivery, DeliveryEvents};

/// The messages of a member: those that wait and those that are at work.
pub(super) struct Intake {
    consumer: Arc<Consumer>,
    lanes: Option<Lanes>,
    state: Mutex<State>,
    /// What has happened to the source, by itself: a key function, which runs under the other lock,
    /// may ask for it.
    events: Mutex<DeliveryEvents>,
}

struct State {
    phase: Phase,
    /// Waiting: one queue for all workers, or one for each lane.
    queues: Vec<VecDeque<Held>>,
    waiting: usize,
    /// At work, by worker.
    running: Vec<Option<Held>>,
    busy: usize,
    /// Workers that wait for a message.
    idle: BTreeMap<usize, Waker>,
    /// The one of them that the source wakes.
    reader: Option<usize>,
    room: Room,
    /// The room that the source was last told.
    told: usize,
    /// What the server has for this consumer, when it last told.
    pending: u64,
    ticks: u64,
}

enum Phase {
    Taking(Box<dyn Deliveries>),
    /// Taking no more; what is here and cannot be given back is still handled.
    Leaving,
    Ended,
}

/// A message and the tick since which it is here, or may be.
struct Held {
    message: Arc<Delivered>,
    since: u64,
}

/// What a tick finds to do.
#[derive(Default)]
pub(super) struct Tick {
    /// Messages to extend.
    pub(super) extend: Vec<Arc<Delivered>>,
    /// Messages that waited for too long: no longer here.
    pub(super) give_back: Vec<Arc<Delivered>>,
    /// How many handlers have had theirs for too long: these are no longer extended.
    pub(super) let_go: u64,
}

impl Intake {
    pub(super) fn new(
        deliveries: Box<dyn Deliveries>,
        consumer: Consumer,
        workers: usize,
        lanes: Option<Lanes>,
        room: Room,
    ) -> Self {
        let queues = if lanes.is_some() { workers } else { 1 };
        let state = State {
            phase: Phase::Taking(deliveries),
            queues: (0..queues).map(|_| VecDeque::new()).collect(),
            waiting: 0,
            running: (0..workers).map(|_| None).collect(),
            busy: 0,
            idle: BTreeMap::new(),
            reader: None,
            room,
            told: 0,
            pending: 0,
            ticks: 0,
        };
        let (consumer, state) = (Arc::new(consumer), Mutex::new(state));
        Intake { consumer, lanes, state, events: Mutex::default() }
    }

    /// The next message of a worker, which is done with its last one; `None`: there will be no more.
    pub(super) fn poll_take(
        &self,
        worker: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Arc<Delivered>>> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.finished(worker);
        let queue = if self.lanes.is_some() { worker } else { 0 };
        if let Some(held) = state.queues[queue].pop_front() {
            state.waiting -= 1;
            return Poll::Ready(Some(state.begin(worker, held)));
        }
        loop {
            let (held, ticks) = (state.waiting + state.busy, state.ticks);
            let told = state.room.left(held);
            let deliveries = match &mut state.phase {
                Phase::Taking(deliveries) => deliveries,
                Phase::Leaving => {
                    state.idle.insert(worker, cx.waker().clone());
                    return Poll::Pending;
                }
                Phase::Ended => return Poll::Ready(None),
            };
            (state.told, state.reader) = (told, None);
            match deliveries.poll_next(told, cx) {
                Poll::Ready(Some(delivery)) => {
                    state.pending = delivery.pending;
                    let message = Arc::new(Delivered::new(delivery, &self.consumer));
                    let lane = self.lanes.as_ref().map(|lanes| lanes.of(&message));
                    let held = Held { message, since: ticks };
                    match lane {
                        Some(lane) if lane != worker => state.queue(lane, held),
                        _ => return Poll::Ready(Some(state.begin(worker, held))),
                    }
                }
                Poll::Ready(None) => state.end(),
                Poll::Pending => {
                    *lock(&self.events) = deliveries.events();
                    // With its share of time used up, a task sees nothing of what is there.
                    if has_budget_remaining()
                        && state.room.idle(held, state.pending > 0, state.busy == 0)
                    {
                        continue;
                    }
                    state.idle.insert(worker, cx.waker().clone());
                    state.reader = Some(worker);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Called at regular times: takes in what has arrived while every worker is busy, and tells what
    /// has been here for more than one tick. What is at work or waits for more than `longest` ticks
    /// is let go. To be polled without a limit of the task's time.
    pub(super) fn tick(&self, longest: u64) -> Tick {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.ticks += 1;
        if let Phase::Taking(deliveries) = &state.phase {
            *lock(&self.events) = deliveries.events();
        }
        if state.idle.is_empty() {
            self.take_in(state);
        }
        let (now, mut tick) = (state.ticks, Tick::default());
        for queue in &mut state.queues {
            queue.retain(|held| {
                let age = now - held.since;
                if age > longest.max(1) {
                    tick.give_back.push(held.message.clone());
                } else if age > 1 {
                    tick.extend.push(held.message.clone());
                }
                age <= longest.max(1)
            });
        }
        if !tick.extend.is_empty() {
            state.room.shrink();
        }
        state.waiting -= tick.give_back.len();
        for held in state.running.iter().flatten() {
            let age = now - held.since;
            if !held.message.is_held() {
            } else if age > longest.max(1) {
                held.message.release();
                tick.let_go += 1;
            } else if age > 1 {
                tick.extend.push(held.message.clone());
            }
        }
        tick
    }

    /// Takes in what has arrived, none of which is for a worker that waits.
    fn take_in(&self, state: &mut State) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let room = state.room.left(state.waiting + state.busy);
            let Phase::Taking(deliveries) = &mut state.phase else { return };
            state.told = room;
            match deliveries.poll_next(room, &mut cx) {
                Poll::Ready(Some(delivery)) => {
                    state.pending = delivery.pending;
                    let message = Arc::new(Delivered::new(delivery, &self.consumer));
                    let lane = self.lanes.as_ref().map_or(0, |lanes| lanes.of(&message));
                    // It came after the tick before this one.
                    state.queue(lane, Held { message, since: state.ticks - 1 });
                }
                Poll::Ready(None) => state.end(),
                Poll::Pending => return,
            }
        }
    }

    /// Takes no more: gives the source to leave, and the messages that wait and can be delivered
    /// once more. The others are still handled, and so is what [`keep`](Self::keep) puts there.
    pub(super) fn leave(
        &self,
        can_come_again: impl Fn(&Delivered) -> bool,
    ) -> (Option<Box<dyn Deliveries>>, Vec<Arc<Delivered>>) {
        let mut state = lock(&self.state);
        let deliveries = match std::mem::replace(&mut state.phase, Phase::Leaving) {
            Phase::Taking(deliveries) => {
                *lock(&self.events) = deliveries.events();
                Some(deliveries)
            }
            phase => {
                state.phase = phase;
                None
            }
        };
        let mut given_back = Vec::new();
        for queue in &mut state.queues {
            queue.retain(|held| {
                let back = can_come_again(&held.message);
                if back {
                    given_back.push(held.message.clone());
                }
                !back
            });
        }
        state.waiting -= given_back.len();
        given_back.sort_by_key(|message| message.info.sequence());
        (deliveries, given_back)
    }

    /// A message that came while leaving, as [`leave`](Self::leave) has it.
    pub(super) fn arrived(&self, delivery: Delivery) -> Arc<Delivered> {
        Arc::new(Delivered::new(delivery, &self.consumer))
    }

    /// Lets a message that came while leaving be handled.
    pub(super) fn keep(&self, message: Arc<Delivered>) {
        let lane = self.lanes.as_ref().map_or(0, |lanes| lanes.of(&message));
        let mut state = lock(&self.state);
        let since = state.ticks;
        state.queue(lane, Held { message, since });
        if self.lanes.is_none() {
            state.wake_one();
        }
    }

    /// Nothing more will come: workers end when their queue is empty.
    pub(super) fn end(&self) {
        lock(&self.state).end();
    }

    /// What has happened to the source.
    pub(super) fn events(&self) -> DeliveryEvents {
        *lock(&self.events)
    }
}

impl State {
    /// A worker is done with its message, and is awake.
    fn finished(&mut self, worker: usize) {
        if self.running[worker].take().is_some() {
            self.busy -= 1;
        }
        if !self.idle.is_empty() {
            self.idle.remove(&worker);
        }
    }

    /// A worker takes a message; another one has to wait for the source in its place.
    fn begin(&mut self, worker: usize, held: Held) -> Arc<Delivered> {
        let message = held.message.clone();
        self.running[worker] = Some(held);
        self.busy += 1;
        self.room.took(message.message.payload.len());
        if !self.idle.is_empty() {
            // Also when the source may be asked for much more than it was.
            let left = self.room.left(self.waiting + self.busy);
            let reads = self.reader.is_some_and(|reader| self.idle.contains_key(&reader));
            if !reads || left > self.told + self.room.limit() / 4 {
                self.wake_one();
            }
        }
        message
    }

    fn queue(&mut self, lane: usize, held: Held) {
        self.queues[lane].push_back(held);
        self.waiting += 1;
        if let Some(waker) = self.idle.remove(&lane) {
            waker.wake();
        }
    }

    fn wake_one(&mut self) {
        if let Some((_, waker)) = self.idle.pop_last() {
            waker.wake();
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        while let Some((_, waker)) = self.idle.pop_last() {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a member looks after its messages: at the second tick after it came, a message is half
/// as old as it may become.
pub(super) fn between_ticks(ack_wait: Duration) -> Duration {
    (ack_wait / 4).max(Duration::from_millis(1))
}
