//! An object on its way in: chunks in a bounded window, then the message that tells of it.
//!
//! Chunks are sent in order, and their acknowledgements say in which order they were stored. After any
//! doubt all that is stored behind the last chunk that is known to be in its place is taken out, since
//! the client may send again what it had kept of a lost connection, and what follows that chunk is sent
//! again. Before such an object is shown, its chunks are counted.

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
use futures::future::{BoxFuture, join_all};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep};

use super::buckets::Buckets;
use super::change::{BACKGROUND, Job, look, take_out};
use super::message::Meta;
use super::place::{Place, Seen, another, full};
use super::uploads::Ticket;
use crate::connector::Link;
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::jetstream::feed::{Consumer, Next, Start, TRY};
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
/// How many bits of a number are the chunk's own; those above tell how often chunks were sent again.
const NUMBER_BITS: u32 = 40;
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
            place: place.clone(),
            nuid: meta.nuid.clone(),
            round: 0,
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
    place: Place,
    nuid: String,
    /// How often chunks were sent again.
    round: u64,
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

/// What sending has come to.
enum Turn {
    Done,
    /// Something went wrong: what is stored is to be set right.
    Repair,
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
        loop {
            let turn = poll_fn(|cx| {
                while self.tick.as_mut().poll(cx).is_ready() {
                    self.tick.as_mut().reset(Instant::now() + TICK);
                    self.look();
                }
                if self.take_answers(cx)? {
                    until = limits.deadline();
                }
                let turn = self.send_all(cx, patience)?;
                if self.take_answers(cx)? {
                    until = limits.deadline();
                }
                if done(self) {
                    return Poll::Ready(Ok(Turn::Done));
                }
                if ticket.is_given_up() {
                    return Poll::Ready(Err(given_up()));
                }
                if Instant::now() >= until {
                    return Poll::Ready(Err(self.stuck()));
                }
                match turn {
                    Turn::Repair => Poll::Ready(Ok(turn)),
                    Turn::Done => Poll::Pending,
                }
            });
            match turn.await? {
                Turn::Done => return Ok(()),
                Turn::Repair => self.repair(until).await?,
            }
        }
    }

    /// Takes out all that is stored behind the last chunk in its place, so that what follows it can be
    /// sent again.
    async fn repair(&mut self, until: Instant) -> Result<()> {
        self.doubt = true;
        // What a server that ends was asked is lost with it, and asked again.
        let turn = until.min(after(TRY));
        match within(until, self.take_back(turn)).await {
            Ok(Ok(())) => {
                self.again_at = None;
                self.round += 1;
                self.unsent = 0;
                for chunk in &mut self.chunks {
                    chunk.state = State::Unsent;
                }
                self.answered = Instant::now();
                Ok(())
            }
            Ok(Err(error))
                if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
                    && Instant::now() < until =>
            {
                self.again_at = Some(after(RETRY_WAIT));
                self.last_error = Some(error);
                Ok(())
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Closed => Err(error),
            Ok(Err(error)) => {
                Err(Error::new(error.kind(), "what was stored cannot be set right")
                    .with_source(error))
            }
            Err(_) => Err(self.stuck()),
        }
    }

    async fn take_back(&mut self, until: Instant) -> Result<()> {
        self.link.connected(until).await?;
        // Behind all that the client had kept.
        self.link.barrier(until).await?;
        sleep(RETRY_WAIT).await;
        let misplaced = self.chunks.iter().filter_map(|chunk| match chunk.state {
            State::Stored(sequence) => Some(sequence),
            _ => None,
        });
        let mut misplaced: Vec<u64> = misplaced.collect();
        let Flight { link, place, nuid, .. } = self;
        let (stream, subjects) = (&place.stream, [place.chunks(nuid)]);
        let start = match self.sequence {
            0 => Start::First,
            sequence => Start::After(sequence),
        };
        let made = Consumer::create(link, stream, &subjects, start, true, until).await;
        let mut consumer = made?;
        while !consumer.has_ended() {
            match consumer.next().await {
                Next::Message(message) => misplaced.push(message.sequence),
                Next::CaughtUp => break,
                Next::Lost(error) => return Err(error),
            }
        }
        misplaced.sort_unstable();
        misplaced.dedup();
        let deletes = misplaced
            .into_iter()
            .map(|sequence| jetstream::delete_message(link, stream, sequence, until));
        join_all(deletes).await.into_iter().try_for_each(|deleted| deleted.map(drop))
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
    fn send_all(&mut self, cx: &mut Context<'_>, patience: Duration) -> Result<Turn> {
        let now = Instant::now();
        let silent = self.answered + patience <= now;
        if let Some(at) = self.again_at {
            let waits = now < at || (self.is_waiting() && !silent);
            return Ok(if waits { Turn::Done } else { Turn::Repair });
        }
        if silent && self.is_waiting() {
            let message = "no chunk was acknowledged for a while";
            self.fail(Error::new(ErrorKind::Timeout, message));
            return Ok(Turn::Repair);
        }
        while let Some(chunk) = self.chunks.get(self.unsent) {
            match self.pipeline.poll_ready(&self.subject, cx) {
                Poll::Pending => return Ok(Turn::Done),
                Poll::Ready(ready) => ready?,
            }
            let number = (self.round << NUMBER_BITS) | (self.first + self.unsent as u64);
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, format!("{}.{number}", self.nuid));
            let message = OutboundMessage {
                subject: self.subject.clone(),
                reply: None,
                payload: chunk.bytes.clone(),
                headers: Some(headers),
            };
            self.pipeline.send(number, message)?;
            if self.unsent == 0 {
                self.answered = now;
            }
            self.chunks[self.unsent].state = State::Sent;
            self.unsent += 1;
        }
        self.pipeline.flush();
        Ok(Turn::Done)
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
                    for chunk in &mut self.chunks {
                        if chunk.state == State::Sent {
                            chunk.state = State::Unsent;
                        }
                    }
                    self.doubt = true;
                    self.fail(error);
                }
                Answer::Denied(_, error) | Answer::Closed(error) => return Err(error),
            }
        }
        Ok(stored && self.let_go())
    }

    /// What became of a chunk; whether it is known to be stored now.
    fn decide(&mut self, number: u64, fate: Fate) -> Result<bool> {
        // Answers to earlier sendings may come late: what these stored is taken out.
        let number = number.checked_sub(self.round << NUMBER_BITS);
        let index = number.and_then(|number| number.checked_sub(self.first));
        let index = index.and_then(|index| usize::try_from(index).ok());
        let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)) else {
            return Ok(false);
        };
        // It has its answer, whatever that is.
        chunk.state = State::Unsent;
        match fate {
            Fate::Acked(acked) if *acked.stream != *self.place.stream => {
                Err(another(&acked.stream))
            }
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
                self.fail(error.unwrap_or_else(|| {
                    Error::new(ErrorKind::Unavailable, "the stream did not take a chunk")
                }));
                Ok(false)
            }
            Fate::Doubtful(error) => {
                self.doubt = true;
                self.fail(error);
                Ok(false)
            }
        }
    }

    /// Lets go of the chunks that are stored behind all earlier ones; whether there were any.
    fn let_go(&mut self) -> bool {
        let before = self.first;
        while let Some(Chunk { state: State::Stored(sequence), bytes }) = self.chunks.front() {
            if *sequence <= self.sequence {
                let message = "the stream stored chunks out of their order";
                self.fail(Error::new(ErrorKind::Unavailable, message));
                break;
            }
            self.sequence = *sequence;
            self.bytes -= bytes.len();
            self.first += 1;
            self.unsent = self.unsent.saturating_sub(1);
            self.chunks.pop_front();
        }
        self.first > before
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
            let mut ended = false;
            while let Err(error) = self.take_answers(cx) {
                // Behind a refusal come the answers to the other chunks.
                if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unauthorized) {
                    ended = true;
                    break;
                }
            }
            if !self.is_waiting() || ended || Instant::now() >= until {
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
