//! A subscription as a stream of messages.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::Subject;
use futures::future::{BoxFuture, select};
use futures::stream::Stream;
use tokio::task::unconstrained;

use super::dispatch::{Stop, Task};
use super::driver::{InboundMessage, Source};
use super::subscription::Place;
use super::{Message, PubSub};
use crate::call::{Call, Operation};
use crate::error::Result;
use crate::metrics::End;

/// A stream of messages to make, by [`PubSub::messages`].
#[derive(Debug)]
pub struct MessagesOf {
    place: Place,
}

impl MessagesOf {
    pub(super) fn new(handle: PubSub, topic: Subject) -> Self {
        MessagesOf { place: Place::new(handle, topic) }
    }
}

impl Call<MessagesOf> {
    /// Joins a queue group: each message goes to one of its members.
    pub fn queue(self, group: impl AsRef<str>) -> Self {
        self.map_operation(|messages| messages.place.queue(group.as_ref()))
    }

    /// Takes the topic as the full subject.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|messages| messages.place.ignore_prefix())
    }
}

impl Operation for MessagesOf {
    type Output = Result<Messages>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Messages>> {
        Box::pin(async move {
            let opened = self.place.open(timeout).await;
            let (handle, source, task) = opened.map_err(|error| error.operation("subscribe"))?;
            let shared = Arc::new(Shared {
                task,
                state: Mutex::new(State {
                    phase: Phase::Reading(source),
                    peeked: VecDeque::new(),
                    reader: None,
                }),
            });
            tokio::spawn(keep(shared.clone()));
            Ok(Messages { shared, handle })
        })
    }
}

/// The messages of a subscription, in order. Dropping it unsubscribes.
///
/// When the connector drains, the stream takes what is under way, gives what it has, and ends; the
/// drain waits for that until its deadline, so read a stream to its end or drop it.
pub struct Messages {
    shared: Arc<Shared>,
    handle: PubSub,
}

struct Shared {
    task: Arc<Task>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// What the end of a drain found waiting.
    peeked: VecDeque<InboundMessage>,
    reader: Option<Waker>,
}

enum Phase {
    Reading(Box<dyn Source>),
    /// The keeper has the source.
    Leaving,
    Ended,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the next phase and wakes the reader to it.
    fn go_on(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = phase;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// Leaves the subscription when that is wished, also while nobody reads the stream.
async fn keep(shared: Arc<Shared>) {
    let task = &shared.task;
    let wish = pin!(poll_fn(|cx| task.poll_wish(cx)));
    let ended = pin!(task.ended());
    let futures::future::Either::Left((stop, _)) = select(wish, ended).await else { return };
    let phase = std::mem::replace(&mut shared.lock().phase, Phase::Leaving);
    let Phase::Reading(mut source) = phase else {
        shared.go_on(Phase::Ended);
        return;
    };
    if stop == Stop::Close {
        source.close().await;
        task.end();
        shared.go_on(Phase::Ended);
        return;
    }
    if let Err(error) = source.drain(task.stop_by()).await {
        task.doubt(&error);
    }
    // With nothing left to read the stream has ended, whether somebody reads it or not.
    match unconstrained(poll_fn(|cx| Poll::Ready(source.poll_next(cx)))).await {
        Poll::Ready(None) => {
            task.end();
            shared.go_on(Phase::Ended);
        }
        Poll::Ready(Some(message)) => {
            task.receive();
            shared.lock().peeked.push_back(message);
            shared.go_on(Phase::Reading(source));
        }
        Poll::Pending => shared.go_on(Phase::Reading(source)),
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let task = &self.shared.task;
        let mut state = self.shared.lock();
        if let Some(message) = state.peeked.pop_front() {
            task.count(End::Handled);
            return Poll::Ready(Some(Message::new(message, self.handle.clone())));
        }
        match &mut state.phase {
            Phase::Reading(source) => match source.poll_next(cx) {
                Poll::Ready(Some(message)) => {
                    task.receive();
                    task.count(End::Handled);
                    Poll::Ready(Some(Message::new(message, self.handle.clone())))
                }
                Poll::Ready(None) => {
                    state.phase = Phase::Ended;
                    task.end();
                    Poll::Ready(None)
                }
                Poll::Pending => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            },
            Phase::Leaving => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Phase::Ended => Poll::Ready(None),
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.handle.core().tasks().remove(&self.shared.task);
        self.shared.task.end();
        let phase = std::mem::replace(&mut self.shared.lock().phase, Phase::Ended);
        drop(phase);
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("topic", &self.shared.task.topic).finish_non_exhaustive()
    }
}
