//! Objects on their way out.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::reader::ObjectReader;
use crate::call::{Call, Operation};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::objects::driver::{Consistency, Download, Limits};
use crate::objects::target::Slot;
use crate::objects::{Link, ObjectInfo, Objects};

/// How many links lead from one to the other at most.
const MAX_LINKS: usize = 16;

/// An object to be read: [`Objects::get`], [`get_bytes`](Objects::get_bytes),
/// [`reader`](Objects::reader), [`get_to`](Objects::get_to).
#[derive(Debug)]
pub struct Get<As> {
    wanted: Result<Wanted>,
    into: As,
}

/// All of it, in memory.
#[derive(Debug)]
pub struct AsBytes(());

/// A value, read with the serializer that wrote it.
pub struct AsValue<T>(PhantomData<fn() -> T>);

/// Chunk by chunk.
#[derive(Debug)]
pub struct AsReader(());

/// Into something that is written to.
pub struct AsWriter<W>(W);

/// What is to be read.
#[derive(Debug)]
struct Wanted {
    slot: Slot,
    range: Range<u64>,
    consistency: Consistency,
}

impl<As> Get<As> {
    fn call(operation: &'static str, objects: &Objects, name: String, into: As) -> Call<Self>
    where
        Self: Operation,
    {
        let wanted = Slot::new(operation, objects, name).map(|slot| Wanted {
            slot,
            range: 0..u64::MAX,
            consistency: Consistency::Any,
        });
        Call::new(Get { wanted, into })
    }
}

impl<As> Call<Get<As>>
where
    Get<As>: Operation,
{
    /// Reads the bytes in `range` alone, for example `1024..2048` or `..100`; what is beyond the end
    /// is not there. The digest, which is that of the whole, is not checked then.
    pub fn range(self, range: impl RangeBounds<u64>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.map_operation(|get| {
            let Ok(wanted) = &mut get.wanted else { return };
            if start <= end {
                wanted.range = start..end;
            } else {
                let error = Error::new(ErrorKind::InvalidInput, "the range ends before it begins");
                get.wanted = Err(wanted.slot.explain(error));
            }
        })
    }

    /// Sees every put that was done before. Without, a copy that lags behind a little may answer.
    pub fn consistent(self) -> Self {
        self.map_operation(|get| {
            if let Ok(wanted) = &mut get.wanted {
                wanted.consistency = Consistency::Latest;
            }
        })
    }
}

impl Wanted {
    /// Begins to read the object, or what its link leads to.
    async fn open(self, limits: Limits) -> Result<Option<ObjectReader>> {
        let Wanted { slot, range, consistency } = self;
        let opened = follow(&slot, range.clone(), consistency, limits).await;
        let Some(download) = opened.map_err(|error| slot.explain(error))? else { return Ok(None) };
        let size = download.info.size;
        let len = range.end.min(size).saturating_sub(range.start);
        Ok(Some(ObjectReader::new(slot, download, len)))
    }

    /// Does something with the reader, all of it within the call's own time limit.
    async fn read<T, F>(
        self,
        limits: Limits,
        work: impl FnOnce(ObjectReader) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let slot = self.slot.clone();
        let read = async {
            match self.open(limits).await? {
                Some(reader) => work(reader).await.map(Some),
                None => Ok(None),
            }
        };
        let Some(whole) = limits.whole else { return read.await };
        within(whole, read).await.unwrap_or_else(|_| {
            Err(slot.explain(Error::new(
                ErrorKind::Timeout,
                "the object was not read within the time limit; give it a longer timeout",
            )))
        })
    }
}

async fn follow(
    slot: &Slot,
    range: Range<u64>,
    consistency: Consistency,
    limits: Limits,
) -> Result<Option<Download>> {
    let driver = &slot.target.driver;
    let (mut bucket, mut name) = (slot.target.bucket.to_string(), slot.name.clone());
    let mut seen = HashSet::new();
    loop {
        let range = range.clone();
        let Some(download) = driver.get(&bucket, &name, range, consistency, limits).await? else {
            return Ok(None);
        };
        let Some(link) = download.info.link else { return Ok(Some(download)) };
        seen.insert((bucket, name));
        (bucket, name) = next_of(link)?;
        check_loop(&seen, &bucket, &name)?;
    }
}

/// Where a link to an object leads.
fn next_of(link: Link) -> Result<(String, String)> {
    let Link { bucket, name } = link;
    match name {
        Some(name) => Ok((bucket, name)),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            "it is a link to a bucket, which has no bytes; read from the handle that \
             linked_bucket gives",
        )
        .with("linked_bucket", bucket)),
    }
}

fn check_loop(seen: &HashSet<(String, String)>, bucket: &str, name: &str) -> Result<()> {
    let again = seen.iter().any(|(in_bucket, known)| in_bucket == bucket && known == name);
    if !again && seen.len() < MAX_LINKS {
        return Ok(());
    }
    let message = if again {
        "its links lead round in a circle".to_owned()
    } else {
        format!("it leads through more than {MAX_LINKS} links")
    };
    Err(Error::new(ErrorKind::InvalidInput, message))
}

/// Refuses a link that would lead to itself.
pub(super) async fn check_link(slot: &Slot, to: &Link, limits: Limits) -> Result<()> {
    let mut seen = HashSet::from([(slot.target.bucket.to_string(), slot.name.clone())]);
    let mut next = Some(to.clone());
    while let Some(Link { bucket, name: Some(name) }) = next {
        check_loop(&seen, &bucket, &name)?;
        let deadline = limits.deadline();
        let driver = &slot.target.driver;
        let info = driver.info(&bucket, &name, Consistency::Latest, deadline).await?;
        seen.insert((bucket, name));
        next = info.and_then(|info| info.link);
    }
    Ok(())
}

impl Operation for Get<AsBytes> {
    type Output = Result<Option<Bytes>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let wanted = self.wanted?;
            let limits = wanted.slot.target.limits(timeout);
            wanted.read(limits, ObjectReader::read_all).await
        })
    }
}

impl<T: DeserializeOwned + 'static> Operation for Get<AsValue<T>> {
    type Output = Result<Option<T>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let wanted = self.wanted?;
            let (slot, limits) = (wanted.slot.clone(), wanted.slot.target.limits(timeout));
            let decode = |reader: ObjectReader| async move {
                let own = &slot.target.scope.serializer;
                let serializer = own.for_content_type(reader.info().content_type()).cloned();
                let bytes = reader.read_all().await?;
                let decoded = serializer.and_then(|serializer| serializer.decode(&bytes));
                decoded.map_err(|error| slot.explain(error))
            };
            wanted.read(limits, decode).await
        })
    }
}

impl Operation for Get<AsReader> {
    type Output = Result<Option<ObjectReader>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let wanted = self.wanted?;
            let limits = wanted.slot.target.limits(timeout);
            wanted.open(limits).await
        })
    }
}

impl<W: AsyncWrite + Send + 'static> Operation for Get<AsWriter<W>> {
    type Output = Result<Option<ObjectInfo>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let (wanted, AsWriter(writer)) = (self.wanted?, self.into);
            let (slot, limits) = (wanted.slot.clone(), wanted.slot.target.limits(timeout));
            let copy = |mut reader: ObjectReader| async move {
                let mut writer = Box::pin(writer);
                let failed = |error| {
                    let message = "what the object is written to has failed";
                    slot.explain(Error::new(ErrorKind::Other, message).with_source(error))
                };
                while let Some(chunk) = reader.next().await.transpose()? {
                    writer.write_all(&chunk).await.map_err(failed)?;
                }
                writer.flush().await.map_err(failed)?;
                Ok(reader.info().clone())
            };
            wanted.read(limits, copy).await
        })
    }
}

impl<T> fmt::Debug for AsValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsValue")
    }
}

impl<W> fmt::Debug for AsWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsWriter")
    }
}

impl Objects {
    /// The value that the object `name` holds, read with the serializer that wrote it; `None` when
    /// there is no such object. Links are followed.
    ///
    /// # Errors
    ///
    /// `Decode` when it is no `T`; else as [`get_bytes`](Self::get_bytes).
    pub fn get<T: DeserializeOwned + 'static>(
        &self,
        name: impl Into<String>,
    ) -> Call<Get<AsValue<T>>> {
        Get::call("objects get", self, name.into(), AsValue(PhantomData))
    }

    /// All bytes of the object `name`, or those in a [range](Call::range), in memory; `None` when
    /// there is no such object. Links are followed; one that leads to nothing is `None`, too.
    ///
    /// # Errors
    ///
    /// `Conflict` when the object was replaced or deleted while it was read; `Other` when it is
    /// damaged; `InvalidInput` for links in a circle and for a link to a bucket; else as
    /// [`info`](Self::info).
    pub fn get_bytes(&self, name: impl Into<String>) -> Call<Get<AsBytes>> {
        Get::call("objects get bytes", self, name.into(), AsBytes(()))
    }

    /// A reader of the object `name`, or of a [range](Call::range) of it; `None` when there is no such
    /// object. Links are followed. A [`timeout`](Call::timeout) bounds the reading, too.
    ///
    /// # Errors
    ///
    /// As [`get_bytes`](Self::get_bytes), the call's own and those of the [`ObjectReader`].
    pub fn reader(&self, name: impl Into<String>) -> Call<Get<AsReader>> {
        Get::call("objects reader", self, name.into(), AsReader(()))
    }

    /// Writes the object `name`, or a [range](Call::range) of it, to `writer`, and flushes that; gives
    /// what the object is, or `None` when there is no such object: then nothing is written. After an
    /// error some of it is written. Links are followed.
    ///
    /// # Errors
    ///
    /// `Other` when the writer fails; else as [`get_bytes`](Self::get_bytes).
    pub fn get_to<W: AsyncWrite + Send + 'static>(
        &self,
        name: impl Into<String>,
        writer: W,
    ) -> Call<Get<AsWriter<W>>> {
        Get::call("objects get to", self, name.into(), AsWriter(writer))
    }
}
