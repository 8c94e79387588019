//! The bytes of an object as they come, checked.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use ring::digest;
use tokio::io::{AsyncRead, ReadBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::put::DIGEST_PREFIX;
use crate::error::{Error, ErrorKind, Result};
use crate::objects::ObjectInfo;
use crate::objects::driver::Download;
use crate::objects::target::Slot;

/// Other clients leave the padding out, or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of an object, in order: an [`AsyncRead`], and a [`Stream`] of chunks.
///
/// What is missing, changed on its way or replaced meanwhile is an error, never a short or mixed
/// result: of a whole object the last chunk is only given when size and digest are right.
/// Reading it slowly slows down the source, and memory stays bounded. A lost connection is resumed.
/// After an error it has ended. Dropping it ends it.
///
/// As an [`AsyncRead`] it gives errors as [`io::Error`]s of the kind `Other` that hold an
/// [`Error`]; `Conflict` when the object was replaced or deleted while it was read.
pub struct ObjectReader {
    slot: Slot,
    info: ObjectInfo,
    /// None once it has ended.
    bytes: Option<BoxStream<'static, Result<Bytes>>>,
    /// How many bytes are still to come.
    left: u64,
    /// For a whole object with a digest: what it is so far.
    digest: Option<digest::Context>,
    /// What a reader has not taken yet.
    chunk: Bytes,
}

impl ObjectReader {
    /// `len`: how many bytes were asked for and are there.
    pub(super) fn new(slot: Slot, download: Download, len: u64) -> Self {
        let Download { info, bytes } = download;
        let known = info.digest.as_deref().is_some_and(|all| all.starts_with(DIGEST_PREFIX));
        let digest = (known && len == info.size).then(|| digest::Context::new(&digest::SHA256));
        ObjectReader { slot, info, bytes: Some(bytes), left: len, digest, chunk: Bytes::new() }
    }

    /// What the object is; of a link, what it leads to.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.left + self.chunk.len() as u64
    }

    /// All that is still to come, in memory.
    ///
    /// # Errors
    ///
    /// As the reader's own.
    pub async fn read_all(mut self) -> Result<Bytes> {
        const TRUSTED: u64 = 16 * 1024 * 1024;
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
        if self.left == 0 {
            self.end().await?;
            return Ok(first);
        }
        // Nobody's word is taken for how much memory it needs.
        let room = (first.len() as u64 + self.left).min(TRUSTED);
        let mut all = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        all.extend_from_slice(&first);
        while let Some(chunk) = self.next().await.transpose()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }

    async fn end(&mut self) -> Result<()> {
        match self.next().await {
            None => Ok(()),
            Some(Ok(_)) => Err(self.damaged("there is more of it than there should be")),
            Some(Err(error)) => Err(error),
        }
    }

    /// Counts a chunk and, with the last one, checks all.
    fn check(&mut self, chunk: &Bytes) -> Result<()> {
        let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
            return Err(self.damaged("there is more of it than there should be"));
        };
        self.left = left;
        if let Some(digest) = &mut self.digest {
            digest.update(chunk);
        }
        if left == 0 { self.check_digest() } else { Ok(()) }
    }

    fn check_digest(&mut self) -> Result<()> {
        let Some(digest) = self.digest.take() else { return Ok(()) };
        let told = self.info.digest.as_deref().and_then(|all| all.strip_prefix(DIGEST_PREFIX));
        let told = told.and_then(|told| BASE64.decode(told).ok());
        if told.is_some_and(|told| told == digest.finish().as_ref()) {
            return Ok(());
        }
        Err(self.damaged("its bytes do not have its digest"))
    }

    fn damaged(&self, how: &str) -> Error {
        let message = format!("the object is damaged: {how}; store it again");
        self.slot.explain(Error::new(ErrorKind::Other, message))
    }
}

impl Stream for ObjectReader {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let reader = &mut *self;
        if !reader.chunk.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut reader.chunk))));
        }
        let Some(bytes) = &mut reader.bytes else { return Poll::Ready(None) };
        let checked = match ready!(bytes.poll_next_unpin(cx)) {
            Some(Ok(chunk)) => match reader.check(&chunk) {
                Ok(()) => return Poll::Ready(Some(Ok(chunk))),
                Err(error) => Err(error),
            },
            Some(Err(error)) => Err(reader.slot.explain(error)),
            None if reader.left > 0 => Err(reader.damaged("some of it is missing")),
            // Of an empty object there was nothing to check before.
            None => reader.check_digest(),
        };
        reader.bytes = None;
        Poll::Ready(checked.err().map(Err))
    }
}

impl AsyncRead for ObjectReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.chunk.is_empty() {
            match ready!(self.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..taken]);
        self.chunk.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader")
            .field("info", &self.info)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
