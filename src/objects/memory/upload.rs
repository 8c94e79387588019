//! An object on its way into memory.

use std::time::SystemTime;

use bytes::Bytes;
use futures::future::{self, BoxFuture};

use super::bucket::{Bucket, Chunks, Object, chunk_size};
use super::{Shared, lock, open};
use crate::error::{Error, ErrorKind, Result};
use crate::objects::driver::{Draft, Upload};
use crate::objects::{DEFAULT_CHUNK_SIZE, ObjectInfo};
use crate::pubsub::memory::MAX_PAYLOAD;

/// The chunks that came so far. They take room of the bucket, and give it back when this is
/// dropped.
pub(super) struct MemoryUpload {
    store: Shared,
    bucket: String,
    /// The bucket that was there at the beginning.
    id: u64,
    draft: Draft,
    chunk_size: usize,
    chunks: Chunks,
    held: u64,
}

impl MemoryUpload {
    pub(super) fn new(store: &Shared, bucket: &str, id: u64, draft: Draft) -> Self {
        let chunk_size = draft.max_chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE).clamp(1, MAX_PAYLOAD);
        let (store, bucket) = (store.clone(), bucket.to_owned());
        MemoryUpload { store, bucket, id, draft, chunk_size, chunks: Vec::new(), held: 0 }
    }

    /// Does `work` on the bucket, while it is the same one.
    fn with<T>(&self, work: impl FnOnce(&mut Bucket) -> Result<T>) -> Result<T> {
        let mut store = open(&self.store)?;
        let bucket = store.current(&self.bucket).filter(|bucket| bucket.id == self.id);
        work(bucket.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "the bucket was deleted while the object was uploaded")
        })?)
    }

    fn take(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() || bytes.len() > self.chunk_size {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a piece has 1 to {} bytes, not {}", self.chunk_size, bytes.len()),
            ));
        }
        let size = chunk_size(&bytes);
        self.with(|bucket| bucket.hold(size))?;
        self.held += size;
        self.chunks.push(bytes);
        Ok(())
    }

    fn show(&mut self, size: u64, digest: String) -> Result<ObjectInfo> {
        let given = self.chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        if given != size {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the object is to have {size} bytes, and {given} were given"),
            ));
        }
        let Draft { name, description, headers, metadata, .. } = std::mem::take(&mut self.draft);
        let id = open(&self.store)?.next_id();
        let mut info = ObjectInfo::new(&self.bucket, name);
        (info.description, info.headers, info.metadata) = (description, headers, metadata);
        (info.size, info.chunks) = (size, self.chunks.len() as u64);
        info.max_chunk_size = Some(self.chunk_size);
        (info.digest, info.id) = (Some(digest), id.to_string());
        info.modified = Some(SystemTime::now());
        let object = Object::new(info, std::mem::take(&mut self.chunks));
        let shown = self.with(|bucket| bucket.show(object, self.held))?;
        self.held = 0;
        Ok(shown)
    }
}

impl Upload for MemoryUpload {
    fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(future::lazy(move |_| self.take(bytes)))
    }

    fn finish<'a>(&'a mut self, size: u64, digest: String) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(future::lazy(move |_| self.show(size, digest)))
    }
}

impl Drop for MemoryUpload {
    fn drop(&mut self) {
        let mut store = lock(&self.store);
        let bucket = store.buckets.get_mut(&self.bucket).filter(|bucket| bucket.id == self.id);
        if let Some(bucket) = bucket {
            bucket.let_go(self.held);
        }
    }
}
