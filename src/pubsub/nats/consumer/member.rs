//! A member of a durable consumer: it stays one through lost connections, other servers, other
//! leaders, and consumers that were deleted.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use rand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::feed::{Feed, Lost, read};
use super::known::Consumer;
use crate::connector::Link;
use crate::connector::link::closed;
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::kv::retry::Retry;
use crate::pubsub::driver::{ConsumerConfig, Consuming, Deliveries, Delivery, DeliveryEvents};

/// How long one try to begin anew may take.
const TRY: Duration = Duration::from_secs(5);
/// The longest pause between two tries, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After this long a member begins anew even where the move is not known to be done.
const MOVE_AT_MOST: Duration = Duration::from_secs(20);

/// How long a member that leaves waits for a server that is gone.
const MOMENT: Duration = Duration::from_millis(250);

/// Joins a consumer, which is made if there is none.
pub(super) async fn join(
    link: &Arc<Link>,
    config: &ConsumerConfig,
    overwrite: bool,
    deadline: Instant,
) -> Result<Consuming> {
    link.ready(deadline).await?;
    if link.status().is_draining() {
        return Err(closed());
    }
    let mut retry = Retry::until(deadline);
    let (consumer, ack_wait, differences) = loop {
        match Consumer::join(link, config, overwrite, deadline).await {
            Err(error) if jetstream::is_temporary(&error) && retry.pause().await => {}
            joined => break joined?,
        }
    };
    // A pull that no server takes shows whether this user may pull at all.
    let nonsense = Bytes::from_static(br#"{"batch":1,"expires":1,"idle_heartbeat":1000000000}"#);
    match link.ask(consumer.pull_subject(), nonsense, deadline).await {
        Err(error) if !error.is_no_responders() => return Err(error),
        _ => {}
    }
    let feed = Feed::open(&consumer, deadline).await?;
    let member = Member {
        consumer,
        buffered: VecDeque::new(),
        phase: Phase::Live(feed),
        moves: None,
        pause: Duration::ZERO,
        restarts: 0,
    };
    Ok(Consuming { deliveries: Box::new(member), ack_wait, differences })
}

struct Member {
    consumer: Arc<Consumer>,
    /// What had arrived when a feed was left.
    buffered: VecDeque<Message>,
    phase: Phase,
    /// Tells when the move that this member left for is done.
    moves: Option<watch::Receiver<u64>>,
    /// The longest pause before the next feed; grows while none brings anything.
    pause: Duration,
    restarts: u64,
}

enum Phase {
    Live(Box<Feed>),
    /// Leaving a feed, for another one.
    Leaving(BoxFuture<'static, VecDeque<Message>>),
    /// Finding the consumer, and opening a feed.
    Opening(BoxFuture<'static, Result<Box<Feed>>>),
    /// Nothing more will come.
    Ended,
}

impl Member {
    /// Gives a feed up; what has arrived in it is kept.
    fn lose(&mut self, lost: Lost) {
        let Phase::Live(mut feed) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        feed.take(&mut self.buffered);
        let config = &self.consumer.config;
        match lost {
            Lost::Closed => return,
            Lost::Refused(error) => {
                tracing::error!(
                    stream = config.stream,
                    consumer = config.name,
                    %error,
                    "a durable subscription has ended"
                );
                return;
            }
            Lost::Moving => self.moves = Some(self.consumer.link.sources().moves()),
            Lost::Doubt(error) => {
                tracing::debug!(
                    stream = config.stream,
                    consumer = config.name,
                    %error,
                    "messages are asked for anew"
                );
                if feed.lively {
                    self.pause = FIRST_PAUSE;
                } else {
                    self.consumer.tell(&error);
                    self.pause = longer(self.pause);
                }
            }
        }
        self.restarts += 1;
        let (link, at_once) = (self.consumer.link.clone(), self.moves.is_some());
        let leaving = async move {
            // Without a connection nothing is under way; with the next one more may come.
            if !at_once && link.connected(Duration::MAX).await.is_err() {
                return VecDeque::new();
            }
            let (rest, left) = feed.leave(after(TRY)).await;
            if let Err(error) = left {
                tracing::debug!(%error, "some messages come again after their ack wait");
            }
            rest
        };
        self.phase = Phase::Leaving(leaving.boxed());
    }

    fn open(&mut self) {
        let (consumer, moves, pause) = (self.consumer.clone(), self.moves.take(), self.pause);
        self.phase = Phase::Opening(open(consumer, moves, pause).boxed());
    }
}

/// The pause before the first try to begin anew, before jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

/// Opens a feed as soon as there is a connection and a consumer.
async fn open(
    consumer: Arc<Consumer>,
    moves: Option<watch::Receiver<u64>>,
    mut pause: Duration,
) -> Result<Box<Feed>> {
    if let Some(mut moves) = moves {
        let _ = within(MOVE_AT_MOST, moves.changed()).await;
    }
    loop {
        let jittered = rand::rng().random_range(Duration::ZERO..=pause);
        sleep(jittered).await;
        consumer.link.connected(Duration::MAX).await?;
        let deadline = after(TRY);
        let tried = async {
            consumer.find(deadline).await?;
            Feed::open(&consumer, deadline).await
        };
        match tried.await {
            Err(error) if matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Closed) => {
                return Err(error);
            }
            Err(error) => consumer.tell(&error),
            opened => return opened,
        }
        pause = longer(pause);
    }
}

/// Done when there has been no connection for a moment.
async fn gone(link: &Link) {
    while link.is_open() || link.connected(after(MOMENT)).await.is_ok() {
        sleep(MOMENT / 5).await;
    }
}

impl Deliveries for Member {
    fn poll_next(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            while let Some(message) = self.buffered.pop_front() {
                if let Ok(delivery) = read(message) {
                    return Poll::Ready(Some(delivery));
                }
            }
            match &mut self.phase {
                Phase::Live(feed) => match feed.poll_next(room, cx) {
                    Poll::Ready(Ok(delivery)) => return Poll::Ready(Some(delivery)),
                    Poll::Ready(Err(lost)) => self.lose(lost),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Leaving(leaving) => match leaving.poll_unpin(cx) {
                    Poll::Ready(rest) => {
                        self.buffered.extend(rest);
                        self.open();
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Opening(opening) => match opening.poll_unpin(cx) {
                    Poll::Ready(Ok(feed)) => self.phase = Phase::Live(feed),
                    Poll::Ready(Err(error)) => {
                        self.phase = Phase::Ended;
                        if !error.is_closed() {
                            tracing::error!(%error, "a durable subscription has ended");
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Ended => return Poll::Ready(None),
            }
        }
    }

    fn drain(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        async move {
            let leaving = match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Live(feed) => feed.leave(deadline).boxed(),
                Phase::Leaving(leaving) => leaving.map(|rest| (rest, Ok(()))).boxed(),
                Phase::Opening(_) | Phase::Ended => return Ok(()),
            };
            let gone = pin!(gone(&self.consumer.link));
            match within(deadline, select(leaving, gone)).await {
                Ok(Either::Left(((rest, left), _))) => {
                    self.buffered.extend(rest);
                    left
                }
                Ok(Either::Right(_)) => {
                    Err(Error::new(ErrorKind::Unavailable, "no server is there to leave"))
                }
                Err(_) => Err(Error::new(ErrorKind::Timeout, "leaving a consumer took too long")),
            }
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        async move {
            self.buffered.clear();
            if let Phase::Live(feed) = std::mem::replace(&mut self.phase, Phase::Ended) {
                let timeout = self.consumer.link.settings().request_timeout();
                feed.close(after(timeout)).await;
            }
        }
        .boxed()
    }

    fn events(&self) -> DeliveryEvents {
        DeliveryEvents {
            consumer_remade: self.consumer.remade.load(Ordering::Relaxed),
            restarts: self.restarts,
        }
    }
}
