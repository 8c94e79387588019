//! Objects on their way in.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::call::{Call, Operation};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::objects::driver::{Draft, Limits};
use crate::objects::target::Slot;
use crate::objects::{MAX_CHUNK_SIZE, ObjectInfo, Objects};
use crate::pubsub::headers;
use crate::serializer::CONTENT_TYPE;

/// An object to be stored: [`Objects::put`], [`put_bytes`](Objects::put_bytes),
/// [`put_reader`](Objects::put_reader), [`put_file`](Objects::put_file).
///
/// Nothing is visible until all of it is stored; then it takes the place of an earlier object of its
/// name, at once. Of several puts of one name at the same time the last one stays, as a whole. A put
/// that fails, or that is dropped midway, leaves the earlier object as it was, and what was stored of
/// its bytes is taken out in the background.
pub struct Put {
    what: Result<(Slot, Draft)>,
    source: Source,
    progress: Option<Progress>,
}

type Progress = Box<dyn FnMut(u64, Option<u64>) + Send>;

/// Where the bytes come from.
enum Source {
    Bytes(Bytes),
    Reader(Pin<Box<dyn AsyncRead + Send>>),
    Path(PathBuf),
}

impl Put {
    fn call(
        operation: &'static str,
        objects: &Objects,
        name: String,
        source: Source,
        content_type: Option<&str>,
    ) -> Call<Self> {
        let what = Slot::new(operation, objects, name).map(|slot| {
            let mut draft = Draft::new(&slot.name);
            draft.max_chunk_size = objects.scope.max_chunk_size;
            if let Some(content_type) = content_type {
                let header = vec![content_type.to_owned()];
                draft.headers.insert(CONTENT_TYPE.to_owned(), header);
            }
            (slot, draft)
        });
        Call::new(Put { what, source, progress: None })
    }

    fn draft(&mut self, change: impl FnOnce(&mut Draft) -> Result<()>) {
        if let Ok((slot, draft)) = &mut self.what
            && let Err(error) = change(draft)
        {
            self.what = Err(slot.explain(error));
        }
    }
}

impl Call<Put> {
    /// Says what the object is.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.map_operation(|put| {
            put.draft(|draft| {
                draft.description = Some(text.into());
                Ok(())
            });
        })
    }

    /// Keeps a header with the object, beside others of its name. Not valid ones fail the call with
    /// `InvalidInput`.
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.map_operation(|put| {
            put.draft(|draft| add_header(&mut draft.headers, name.as_ref(), value.as_ref()));
        })
    }

    /// Says what the bytes are, for example `application/pdf`: the `Content-Type` header, in place of
    /// an earlier one.
    pub fn content_type(self, media_type: impl AsRef<str>) -> Self {
        self.map_operation(|put| {
            put.draft(|draft| {
                draft.headers.remove(CONTENT_TYPE);
                add_header(&mut draft.headers, CONTENT_TYPE, media_type.as_ref())
            });
        })
    }

    /// Keeps a name and a value with the object, in place of an earlier value.
    pub fn metadata(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map_operation(|put| {
            put.draft(|draft| {
                draft.metadata.insert(name.into(), value.into());
                Ok(())
            });
        })
    }

    /// Stores it in chunks of at most so many bytes; 1 byte to 64 MiB, and never more than the
    /// server's payload limit. Default: the handle's, which is 128 KiB.
    pub fn max_chunk_size(self, bytes: usize) -> Self {
        self.map_operation(|put| {
            put.draft(|draft| {
                draft.max_chunk_size = Some(bytes);
                Ok(())
            });
        })
    }

    /// Calls `progress` with the number of bytes that the store has taken so far, which may be under
    /// way still, and with that of all, where it is known: with each chunk, and with zero first. It
    /// should not block.
    pub fn progress(self, progress: impl FnMut(u64, Option<u64>) + Send + 'static) -> Self {
        self.map_operation(|put| put.progress = Some(Box::new(progress)))
    }
}

/// Adds a header that other clients can read.
pub(super) fn add_header(
    all: &mut std::collections::BTreeMap<String, Vec<String>>,
    name: &str,
    value: &str,
) -> Result<()> {
    headers::checked(name, value)?;
    all.entry(name.to_owned()).or_default().push(value.to_owned());
    Ok(())
}

impl Operation for Put {
    type Output = Result<ObjectInfo>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let Put { what, source, mut progress } = self;
            let (slot, draft) = what?;
            let limits = slot.target.limits(timeout);
            let stored = store(&slot, draft, source, &mut progress, limits);
            let stored = match limits.whole {
                None => stored.await,
                Some(whole) => within(whole, stored).await.unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::Timeout,
                        "the object was not stored within the time limit; give it a longer timeout",
                    ))
                }),
            };
            stored.map_err(|error| slot.explain(error))
        })
    }
}

async fn store(
    slot: &Slot,
    draft: Draft,
    source: Source,
    progress: &mut Option<Progress>,
    limits: Limits,
) -> Result<ObjectInfo> {
    if draft.max_chunk_size.is_some_and(|n| !(1..=MAX_CHUNK_SIZE).contains(&n)) {
        let message = "max_chunk_size must be 1 byte to 64 MiB";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    // What cannot be read is told before anything is sent.
    let (mut input, total) = open(source).await?;
    let mut upload = slot.target.driver.put(&slot.target.bucket, draft, limits).await?;
    let chunk_size = upload.chunk_size().max(1);
    let (mut size, mut digest) = (0, Context::new(&SHA256));
    let mut tell = |size| {
        if let Some(progress) = progress {
            progress(size, total);
        }
    };
    tell(0);
    while let Some(chunk) = input.next(chunk_size).await? {
        size += chunk.len() as u64;
        digest.update(&chunk);
        upload.write(chunk).await?;
        tell(size);
    }
    let digest = format!("{DIGEST_PREFIX}{}", URL_SAFE.encode(digest.finish()));
    upload.finish(size, digest).await
}

/// What a digest begins with.
pub(super) const DIGEST_PREFIX: &str = "SHA-256=";

/// Bytes to be cut into chunks.
enum Input {
    Bytes(Bytes),
    Reader(Pin<Box<dyn AsyncRead + Send>>),
}

/// What there is to read, and how much it is, where that is known.
async fn open(source: Source) -> Result<(Input, Option<u64>)> {
    match source {
        Source::Bytes(bytes) => {
            let total = bytes.len() as u64;
            Ok((Input::Bytes(bytes), Some(total)))
        }
        Source::Reader(reader) => Ok((Input::Reader(reader), None)),
        Source::Path(path) => {
            let refused = |error| {
                Error::new(ErrorKind::InvalidInput, "the file cannot be read")
                    .with("file", path.display().to_string())
                    .with_source(error)
            };
            let file = File::open(&path).await.map_err(refused)?;
            let about = file.metadata().await.map_err(refused)?;
            let total = about.is_file().then_some(about.len());
            Ok((Input::Reader(Box::pin(file)), total))
        }
    }
}

impl Input {
    /// The next chunk, of `size` bytes unless it is the last.
    async fn next(&mut self, size: usize) -> Result<Option<Bytes>> {
        let chunk = match self {
            Input::Bytes(bytes) => bytes.split_to(size.min(bytes.len())),
            Input::Reader(reader) => {
                let mut chunk = BytesMut::with_capacity(size);
                while chunk.len() < size {
                    let room = size - chunk.len();
                    let read = reader.read_buf(&mut (&mut chunk).limit(room)).await;
                    let read = read.map_err(|error| {
                        Error::new(ErrorKind::Other, "the source of the object cannot be read")
                            .with_source(error)
                    })?;
                    if read == 0 {
                        break;
                    }
                }
                chunk.freeze()
            }
        };
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Objects {
    /// Stores `value`, encoded by the handle's serializer, as the object `name`. It is encoded in the
    /// call.
    ///
    /// # Errors
    ///
    /// `Encode` for a value that the serializer cannot write; else as
    /// [`put_bytes`](Self::put_bytes).
    pub fn put<T: Serialize + ?Sized>(&self, name: impl Into<String>, value: &T) -> Call<Put> {
        let serializer = &self.scope.serializer;
        let content_type = (!serializer.is_default()).then(|| serializer.content_type());
        let encoded = serializer.encode(value);
        let (bytes, failed) = match encoded {
            Ok(bytes) => (bytes, None),
            Err(error) => (Bytes::new(), Some(error)),
        };
        let call = Put::call("objects put", self, name.into(), Source::Bytes(bytes), content_type);
        match failed {
            None => call,
            Some(error) => call.map_operation(|put| put.draft(|_| Err(error))),
        }
    }

    /// Stores `bytes` as the object `name`. Gives what is told of it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that is empty or above [`MAX_NAME_LEN`](crate::objects::MAX_NAME_LEN)
    /// bytes; `TooLarge` when the bucket is full, which is told when it is; `Unsupported` for a sealed
    /// bucket; `Unauthorized` naming the subject that is not permitted; `Unavailable` and `Timeout`
    /// when the store does not take it (after a `Timeout` of its very end the object may be there);
    /// `Closed`.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, nothing of it is visible; dropped when all was stored and it is about to be
    /// shown, it is there as a whole or not at all.
    pub fn put_bytes(&self, name: impl Into<String>, bytes: impl Into<Bytes>) -> Call<Put> {
        Put::call("objects put bytes", self, name.into(), Source::Bytes(bytes.into()), None)
    }

    /// Stores all that `reader` gives as the object `name`, chunk by chunk: memory does not grow with
    /// its size, and the reader is not read faster than the store takes.
    ///
    /// # Errors
    ///
    /// `Other` when the reader fails; else as [`put_bytes`](Self::put_bytes), also for cancel safety.
    pub fn put_reader(
        &self,
        name: impl Into<String>,
        reader: impl AsyncRead + Send + 'static,
    ) -> Call<Put> {
        let source = Source::Reader(Box::pin(reader));
        Put::call("objects put reader", self, name.into(), source, None)
    }

    /// Stores a file of this machine as the object `name`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when it cannot be opened, naming the file; else as
    /// [`put_reader`](Self::put_reader).
    pub fn put_file(&self, name: impl Into<String>, path: impl Into<PathBuf>) -> Call<Put> {
        Put::call("objects put file", self, name.into(), Source::Path(path.into()), None)
    }
}
