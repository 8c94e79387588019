//! An object on its way in: chunks in a bounded window, then the message that tells of it.
//!
//! Chunks are sent in order, each under an id of its own, and their acknowledgements say in which
//! order they were stored. After any doubt all that has no acknowledgement is sent again under the
//! same ids, and before the object is shown the chunks are counted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep};

use super::buckets::Buckets;
use super::change::{BACKGROUND, Job, look, take_out};
use super::message::Meta;
use super::place::{Place, Seen, another, full};
use super::uploads::Ticket;
use crate::connector::Link;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::objects::driver::{Draft, Limits, Upload};
use crate::objects::{DEFAULT_CHUNK_SIZE, ObjectInfo};
use crate::pubsub::driver::{Answer, Fate, Pipeline, PipelineConfig};
use crate::pubsub::nats::many;

/// The most bytes that are under way at once, unless a single chunk is larger.
const WINDOW: usize = 4 * 1024 * 1024;
/// The most chunks that are under way at once.
const WINDOW_CHUNKS: usize = 1024;
/// What a chunk's headers take of a message at most.
const HEADERS: usize = 256;
/// How often what is under way is looked after.
const TICK: Duration = Duration::from_millis(100);
/// The wait before chunks are sent again.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// How long what is under way is waited for before an upload that is given up is taken out.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) async fn begin(
    link: &Arc<Link>,
    buckets: &Buckets,
    place: Place,
    draft: Draft,
    limits: Limits,
) -> Result<NatsUpload> {
    let deadline = limits.deadline();
    let seen = look(link, buckets, &place, &draft.name, deadline).await?;
    let window = WINDOW_CHUNKS.min(link.settings().subscription_capacity());
    let config = PipelineConfig { window, fast_ingest: false };
    let pipeline = many::open_always(link, config, deadline).await?;
    let room = link.client().max_payload().saturating_sub(HEADERS).max(1);
    let chunk_size = draft.max_chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE).min(room);
    let meta = Meta::of_draft(&place.bucket, draft, chunk_size);
    let ticket = link.uploads().upload(&place, &meta.nuid);
    let subject = Place::send_to(link, &place.chunks(&meta.nuid));
    Ok(NatsUpload {
        link: link.clone(),
        chunk_size,
        chunks: 0,
        seen: Some(seen),
        ticket: Some(ticket),
        flight: Some(Flight {
            link: link.clone(),
            pipeline,
            stream: place.stream.clone(),
            id: meta.nuid.clone(),
            subject,
            window,
            chunks: VecDeque::new(),
            first: 0,
            bytes: 0,
            unsent: 0,
            again_at: None,
            doubt: false,
            sequence: 0,
            answered: Instant::now(),
            last_error: None,
            tick: Box::pin(sleep(TICK)),
        }),
        place,
        meta,
        limits,
        runtime: Handle::current(),
    })
}

pub(super) struct NatsUpload {
    link: Arc<Link>,
    place: Place,
    meta: Meta,
    limits: Limits,
    chunk_size: usize,
    /// How many chunks were given.
    chunks: u64,
    /// What was told of the name at the beginning.
    seen: Option<Seen>,
    /// Until the end is another's.
    ticket: Option<Ticket>,
    flight: Option<Flight>,
    runtime: Handle,
}

/// The chunks that are under way.
struct Flight {
    link: Arc<Link>,
    pipeline: Box<dyn Pipeline>,
    stream: String,
    id: String,
    subject: Subject,
    window: usize,
    /// Those that are not known to be stored, and those behind them.
    chunks: VecDeque<Chunk>,
    /// The number of the first of them.
    first: u64,
    /// How many bytes they have.
    bytes: usize,
    /// Where the first one is that may have to be sent.
    unsent: usize,
    /// When chunks may be sent again, after something went wrong; all that are under way are waited
    /// for before.
    again_at: Option<Instant>,
    /// A chunk was sent of which nobody knows whether it was stored.
    doubt: bool,
    /// Where the last chunk is that is known to be stored, with all before it.
    sequence: u64,
    /// When the last answer came.
    answered: Instant,
    last_error: Option<Error>,
    tick: Pin<Box<Sleep>>,
}

struct Chunk {
    bytes: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unsent,
    Sent,
    Stored(u64),
}

impl Upload for NatsUpload {
    fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(flight), Some(ticket)) = (&mut self.flight, &self.ticket) else {
                return Err(ended());
            };
            self.chunks += 1;
            flight.push(bytes);
            flight.drive(self.limits, ticket, Flight::has_room).await
        })
    }

    fn finish<'a>(&'a mut self, size: u64, digest: String) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move {
            let (Some(flight), Some(ticket)) = (&mut self.flight, &self.ticket) else {
                return Err(ended());
            };
            flight.drive(self.limits, ticket, |flight| flight.chunks.is_empty()).await?;
            if flight.doubt {
                let (place, nuid) = (&self.place, &self.meta.nuid);
                count(&self.link, place, nuid, self.chunks, self.limits.deadline()).await?;
            }
            if !self.ticket.as_ref().is_some_and(Ticket::ending) {
                return Err(given_up());
            }
            let (Some(ticket), Some(seen)) = (self.ticket.take(), self.seen.take()) else {
                return Err(ended());
            };
            // From here on the job takes care of the chunks.
            self.flight = None;
            self.meta.complete(size, self.chunks, digest);
            let meta = self.meta.clone();
            let job = Job {
                link: self.link.clone(),
                place: self.place.clone(),
                name: meta.name.clone(),
                seen: Some(seen),
                bytes: Some(meta.nuid.clone()),
                decide: Box::new(move |_| Ok(Some(meta.clone()))),
                deadline: self.limits.deadline(),
            };
            let told = job.run(ticket).await?.ok_or_else(ended)?;
            Ok(told.info(&self.place))
        })
    }
}

/// Compares the number of chunks that were given with that of those that are stored.
async fn count(
    link: &Link,
    place: &Place,
    nuid: &str,
    chunks: u64,
    deadline: Instant,
) -> Result<()> {
    let subject = place.chunks(nuid);
    let stored = place.subjects(link, &subject, deadline).await?;
    if stored.get(&subject).copied().unwrap_or(0) == chunks {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        "chunks were lost or stored twice while the connection or the stream's leader changed; put \
         the object again",
    ))
}

impl Drop for NatsUpload {
    fn drop(&mut self) {
        let (Some(ticket), flight) = (self.ticket.take(), self.flight.take()) else { return };
        if self.chunks == 0 || !ticket.ending() {
            return;
        }
        let (link, place, nuid) = (self.link.clone(), self.place.clone(), self.meta.nuid.clone());
        let _runtime = self.runtime.enter();
        ticket.spawn(async move {
            let settled = match flight {
                Some(flight) => flight.settle().await,
                None => true,
            };
            take_out(&link, &place, &nuid).await;
            if !settled {
                // What had no answer may have been stored since.
                sleep(SETTLE.min(BACKGROUND)).await;
                take_out(&link, &place, &nuid).await;
            }
        });
    }
}

impl Flight {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { bytes, state: State::Unsent });
    }

    fn has_room(&self) -> bool {
        self.bytes < WINDOW && self.chunks.len() < self.window
    }

    /// Sends and takes answers until it is `done`; an error when nothing is stored for as long as a
    /// step may take.
    async fn drive(
        &mut self,
        limits: Limits,
        ticket: &Ticket,
        done: impl Fn(&Flight) -> bool,
    ) -> Result<()> {
        let mut until = limits.deadline();
        // What came while nobody waited is looked at first.
        self.answered = Instant::now();
        let patience = (limits.step / 4).max(TICK * 5);
        poll_fn(|cx| {
            while self.tick.as_mut().poll(cx).is_ready() {
                self.tick.as_mut().reset(Instant::now() + TICK);
                self.look();
            }
            if self.take_answers(cx)? {
                until = limits.deadline();
            }
            self.send_all(cx, patience)?;
            if self.take_answers(cx)? {
                until = limits.deadline();
            }
            if done(self) {
                return Poll::Ready(Ok(()));
            }
            if ticket.is_given_up() {
                return Poll::Ready(Err(given_up()));
            }
            if Instant::now() >= until {
                return Poll::Ready(Err(self.stuck()));
            }
            Poll::Pending
        })
        .await
    }

    fn look(&mut self) {
        let Flight { pipeline, chunks, subject, .. } = self;
        let waits = chunks.iter().any(|chunk| chunk.state == State::Sent);
        pipeline.look(&|asked| waits && asked == subject.as_str());
    }

    fn is_waiting(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.state == State::Sent)
    }

    /// Sends what is to be sent, in order.
    fn send_all(&mut self, cx: &mut Context<'_>, patience: Duration) -> Result<()> {
        let now = Instant::now();
        if let Some(at) = self.again_at {
            let silent = self.answered + patience <= now;
            if now < at || (self.is_waiting() && !silent) {
                return Ok(());
            }
            self.doubt |= self.is_waiting();
            self.begin_again();
        } else if self.answered + patience <= now && self.is_waiting() {
            let message = "no chunk was acknowledged for a while";
            self.fail(Error::new(ErrorKind::Timeout, message));
            self.answered = now;
            return Ok(());
        }
        while let Some(chunk) = self.chunks.get_mut(self.unsent) {
            if chunk.state == State::Unsent {
                match self.pipeline.poll_ready(&self.subject, cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(ready) => ready?,
                }
                let number = self.first + self.unsent as u64;
                let mut headers = HeaderMap::new();
                headers.insert(NATS_MESSAGE_ID, format!("{}.{number}", self.id));
                let message = OutboundMessage {
                    subject: self.subject.clone(),
                    reply: None,
                    payload: chunk.bytes.clone(),
                    headers: Some(headers),
                };
                self.pipeline.send(number, message)?;
                if !self.chunks.iter().take(self.unsent).any(|it| it.state == State::Sent) {
                    self.answered = now;
                }
                self.chunks[self.unsent].state = State::Sent;
            }
            self.unsent += 1;
        }
        self.pipeline.flush();
        Ok(())
    }

    /// Whatever is not known to be stored is to be sent again.
    fn begin_again(&mut self) {
        self.again_at = None;
        for chunk in &mut self.chunks {
            if chunk.state == State::Sent {
                chunk.state = State::Unsent;
            }
        }
        self.unsent = 0;
    }

    /// Something is not stored: no more is sent until it is known what is.
    fn fail(&mut self, error: Error) {
        self.again_at.get_or_insert_with(|| after(RETRY_WAIT));
        self.last_error = Some(error);
    }

    /// Takes the answers that are there; whether more is stored.
    fn take_answers(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let mut stored = false;
        while let Poll::Ready(answer) = self.pipeline.poll_answer(cx) {
            self.answered = Instant::now();
            match answer {
                Answer::One(number, fate) => stored |= self.decide(number, fate)?,
                Answer::Lost(error) => {
                    self.doubt = true;
                    self.begin_again();
                    self.fail(error);
                }
                Answer::Denied(_, error) | Answer::Closed(error) => return Err(error),
            }
        }
        if stored {
            self.settle_stored()?;
        }
        Ok(stored)
    }

    /// What became of a chunk; whether it is known to be stored now.
    fn decide(&mut self, number: u64, fate: Fate) -> Result<bool> {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let chunk = index.and_then(|index| self.chunks.get_mut(index));
        // Answers to earlier sendings may come late.
        let Some(chunk) = chunk.filter(|chunk| !matches!(chunk.state, State::Stored(_))) else {
            return Ok(false);
        };
        match fate {
            Fate::Acked(acked) if *acked.stream != *self.stream => Err(another(&acked.stream)),
            Fate::Acked(acked) => {
                chunk.state = State::Stored(acked.sequence.unwrap_or_default());
                Ok(true)
            }
            Fate::Refused(error) if jetstream::has_code(&error, jetstream::STREAM_FULL) => {
                Err(full())
            }
            Fate::Refused(error) if jetstream::has_code(&error, jetstream::STREAM_SEALED) => {
                let message = "the bucket is sealed and takes no changes any more";
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            Fate::Refused(error) => Err(error),
            Fate::NotTaken(error) => {
                chunk.state = State::Unsent;
                self.fail(error.unwrap_or_else(|| {
                    Error::new(ErrorKind::Unavailable, "the stream did not take a chunk")
                }));
                Ok(false)
            }
            Fate::Doubtful(error) => {
                chunk.state = State::Unsent;
                self.doubt = true;
                self.fail(error);
                Ok(false)
            }
        }
    }

    /// Lets go of the chunks that are stored behind all earlier ones.
    fn settle_stored(&mut self) -> Result<()> {
        while let Some(Chunk { state: State::Stored(sequence), bytes }) = self.chunks.front() {
            if *sequence <= self.sequence {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "the stream stored chunks out of their order while its leader changed; put the \
                     object again",
                ));
            }
            self.sequence = *sequence;
            self.bytes -= bytes.len();
            self.first += 1;
            self.unsent = self.unsent.saturating_sub(1);
            self.chunks.pop_front();
        }
        Ok(())
    }

    /// Why nothing was stored for so long.
    fn stuck(&mut self) -> Error {
        let error = if self.link.is_open() {
            let message = "the bucket's stream took no chunk within the time limit of a step";
            Error::new(ErrorKind::Timeout, message)
        } else {
            let message = "the connection was lost during the upload and did not come back in time";
            Error::new(ErrorKind::Unavailable, message)
        };
        match self.last_error.take() {
            Some(last) => error.with_source(last),
            None => error,
        }
    }

    /// Waits until all that was sent has an answer; whether it has.
    async fn settle(mut self) -> bool {
        let until = after(SETTLE);
        let settled = poll_fn(|cx| {
            while self.tick.as_mut().poll(cx).is_ready() {
                self.tick.as_mut().reset(Instant::now() + TICK);
                self.look();
            }
            let taken = self.take_answers(cx);
            if !self.is_waiting() || taken.is_err() || Instant::now() >= until {
                return Poll::Ready(!self.is_waiting());
            }
            Poll::Pending
        });
        settled.await && !self.doubt
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Conflict, "the upload has ended")
}

fn given_up() -> Error {
    Error::new(ErrorKind::Closed, "the connector was drained before the object was stored")
}
