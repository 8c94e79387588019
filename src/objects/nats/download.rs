//! An object on its way out: its chunks in order, as an ordered consumer brings them in bounded
//! batches, made anew behind the last chunk after any doubt.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;

use super::place::Place;
use crate::connector::Link;
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::jetstream::feed::{Consumer, Delivered, Next, Start, TRY};
use crate::kv::retry::Retry;
use crate::objects::ObjectInfo;
use crate::objects::driver::{Consistency, Download, Limits};

/// Where to begin is looked for among the sizes of chunks when more than this is in front of it.
const SKIM_FROM: u64 = 1024 * 1024;
/// The header that tells the size of a message that comes without its bytes.
const SIZE: &str = "Nats-Msg-Size";

pub(super) async fn begin(
    link: &Arc<Link>,
    place: Place,
    name: &str,
    range: Range<u64>,
    consistency: Consistency,
    limits: Limits,
) -> Result<Option<Download>> {
    let seen = place.read(link, name, consistency, limits.deadline()).await?;
    let Some((info, meta)) = seen.object() else { return Ok(None) };
    let end = range.end.min(info.size);
    if meta.is_link() || range.start >= end {
        return Ok(Some(Download { info, bytes: stream::empty().boxed() }));
    }
    let mut chunks = Chunks::new(link, place, &info, range.start..end, limits);
    // What a copy told may be old: then the leader is asked before anything is given.
    let first = match chunks.next().await {
        Err(error) if error.is_conflict() && consistency == Consistency::Any => {
            let (place, limits) = (chunks.place, chunks.limits);
            let again = begin(link, place, name, range, Consistency::Latest, limits);
            return Box::pin(again).await;
        }
        first => first?,
    };
    Ok(Some(Download { info, bytes: rest(first, chunks) }))
}

fn rest(first: Option<Bytes>, chunks: Chunks) -> BoxStream<'static, Result<Bytes>> {
    let first = stream::iter(first.map(Ok));
    let rest = stream::try_unfold(Box::new(chunks), |mut chunks| async {
        Ok(chunks.next().await?.map(|bytes| (bytes, chunks)))
    });
    first.chain(rest).boxed()
}

struct Chunks {
    link: Arc<Link>,
    place: Place,
    name: String,
    nuid: String,
    /// The subject of the chunks.
    subjects: [String; 1],
    limits: Limits,
    /// The bytes that are wanted.
    range: Range<u64>,
    /// Where in the object the next chunk begins.
    offset: u64,
    /// Where the last chunk is that was read.
    position: u64,
    consumer: Option<Consumer>,
    /// The object has one chunk, which may be asked for.
    single: bool,
    /// Where to begin was looked for.
    skimmed: bool,
}

impl Chunks {
    fn new(
        link: &Arc<Link>,
        place: Place,
        info: &ObjectInfo,
        range: Range<u64>,
        limits: Limits,
    ) -> Self {
        Chunks {
            link: link.clone(),
            name: info.name.clone(),
            nuid: info.id.clone(),
            subjects: [place.chunks(&info.id)],
            place,
            limits,
            skimmed: range.start < SKIM_FROM,
            range,
            offset: 0,
            position: 0,
            consumer: None,
            single: info.chunks == 1,
        }
    }

    /// The next bytes of those that are wanted. Each is waited for as long as a step may take.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let deadline = self.limits.deadline();
        let mut retry = Retry::until(deadline);
        while self.offset < self.range.end {
            let read = within(deadline, self.read(deadline)).await.unwrap_or_else(|_| {
                let message = "no chunk of the object came within the time limit of a step";
                Err(Error::new(ErrorKind::Timeout, message))
            });
            let missing = match read {
                Ok(Some(chunk)) => match self.wanted(&chunk) {
                    Some(wanted) => return Ok(Some(wanted)),
                    None => continue,
                },
                Ok(None) => {
                    self.check_whether_there(deadline).await?;
                    let message = "chunks of the object are missing, though nobody has deleted it; \
                                   the bucket's ttl may have ended theirs";
                    Error::new(ErrorKind::Other, message)
                }
                Err(error) if is_passing(&error) => {
                    if error.is_not_found() {
                        self.check_whether_there(deadline).await?;
                    }
                    error
                }
                Err(error) => return Err(error),
            };
            self.consumer = None;
            if !retry.pause().await || self.link.connected(deadline).await.is_err() {
                return Err(missing);
            }
        }
        Ok(None)
    }

    /// The part of a chunk that is wanted.
    fn wanted(&mut self, chunk: &Bytes) -> Option<Bytes> {
        let begin = self.offset;
        self.offset += chunk.len() as u64;
        let within_chunk = |at: u64| {
            let at = at.saturating_sub(begin).min(chunk.len() as u64);
            usize::try_from(at).unwrap_or(chunk.len())
        };
        let part = chunk.slice(within_chunk(self.range.start)..within_chunk(self.range.end));
        Some(part).filter(|part| !part.is_empty())
    }

    /// The next chunk; nothing when there is none.
    async fn read(&mut self, deadline: Instant) -> Result<Option<Bytes>> {
        if std::mem::take(&mut self.single) {
            // A copy that lags behind does not have it yet; a consumer waits for it.
            let last = self.place.last(&self.link, &self.subjects[0], deadline).await;
            if let Some(last) = last.or_else(nothing_if_gone)? {
                self.position = last.sequence;
                return Ok(Some(last.payload));
            }
        }
        if !self.skimmed {
            self.skim(deadline).await?;
            self.skimmed = true;
        }
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            None => {
                let mut consumer = self.consumer(false, deadline).await?;
                let wanted = self.range.end.saturating_sub(self.offset);
                consumer.limit_bytes(usize::try_from(wanted).unwrap_or(usize::MAX));
                self.consumer.insert(consumer)
            }
        };
        let next = next_of(consumer).await?;
        Ok(next.map(|message| {
            self.position = message.sequence;
            message.payload
        }))
    }

    /// Goes to the chunk with the first wanted byte, by the sizes of those in front of it.
    async fn skim(&mut self, deadline: Instant) -> Result<()> {
        let mut consumer = self.consumer(true, deadline).await?;
        while let Some(message) = next_of(&mut consumer).await? {
            let size = message.headers.as_ref().and_then(|all| all.get(SIZE));
            let Some(size) = size.and_then(|size| size.as_str().parse::<u64>().ok()) else {
                return Ok(());
            };
            if self.offset + size > self.range.start {
                return Ok(());
            }
            self.offset += size;
            self.position = message.sequence;
        }
        Ok(())
    }

    /// A consumer of the chunks behind the last one that was read.
    async fn consumer(&self, sizes: bool, deadline: Instant) -> Result<Consumer> {
        let start = match self.position {
            0 => Start::First,
            position => Start::After(position),
        };
        let Chunks { link, place, subjects, .. } = self;
        Consumer::create(link, &place.stream, subjects, start, sizes, deadline).await
    }

    /// An error when the object is not what it was.
    async fn check_whether_there(&self, deadline: Instant) -> Result<()> {
        let Chunks { link, place, name, .. } = self;
        let now = place.read(link, name, Consistency::Latest, deadline).await?;
        let message = match now.meta() {
            Some(meta) if meta.nuid == self.nuid => return Ok(()),
            Some(_) => "the object was replaced while it was read; read it again",
            None => "the object was deleted while it was read",
        };
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

/// The next message of a consumer; nothing when there is no more. It is looked after often enough
/// that an end without a word is noticed.
async fn next_of(consumer: &mut Consumer) -> Result<Option<Delivered>> {
    if consumer.has_ended() {
        return Ok(None);
    }
    match within(TRY, consumer.next()).await {
        Ok(Next::Message(message)) => Ok(Some(message)),
        Ok(Next::CaughtUp) => Ok(None),
        Ok(Next::Lost(error)) => Err(error),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the server sends nothing")),
    }
}

/// A subject without a bucket has no messages.
fn nothing_if_gone<T>(error: Error) -> Result<Option<T>> {
    if error.is_not_found() { Ok(None) } else { Err(error) }
}

/// Whether another try may help. A bucket that is gone is looked for as well: it tells what became of
/// the object.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
        || error.is_not_found()
        || jetstream::is_temporary(error)
}
