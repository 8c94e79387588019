//! What is told of an object, and of what happens to it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

/// An object without its bytes. Of headers and metadata its `Debug` form has the names alone.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// The full name of the bucket that it was stored in.
    pub bucket: String,
    /// What it is.
    pub description: Option<String>,
    /// Its headers; what a serializer wrote has its media type in `Content-Type`, unless it is JSON.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// How many bytes it has.
    pub size: u64,
    /// How many chunks these are stored in, where the store knows chunks.
    pub chunks: u64,
    /// The most bytes in one chunk, where the store knows.
    pub max_chunk_size: Option<usize>,
    /// `SHA-256=` and the hash of its bytes in URL-safe Base64 with padding; none of a link.
    pub digest: Option<String>,
    /// When it was stored or changed last, where the store knows.
    pub modified: Option<SystemTime>,
    /// The name of these very bytes: another put of the same name has another.
    pub id: String,
    /// Grows with every change of the bucket.
    pub revision: u64,
    /// What it stands for, where it is a link.
    pub link: Option<Link>,
}

impl ObjectInfo {
    /// An empty object of these names, as drivers begin to tell one.
    #[must_use]
    pub fn new(bucket: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectInfo {
            name: name.into(),
            bucket: bucket.into(),
            description: None,
            headers: BTreeMap::new(),
            metadata: BTreeMap::new(),
            size: 0,
            chunks: 0,
            max_chunk_size: None,
            digest: None,
            modified: None,
            id: String::new(),
            revision: 0,
            link: None,
        }
    }

    /// The first value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let (_, values) = all.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        values.first().map(String::as_str)
    }

    /// The media type that its bytes were stored with.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header(crate::serializer::CONTENT_TYPE)
    }
}

impl fmt::Debug for ObjectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectInfo")
            .field("name", &self.name)
            .field("bucket", &self.bucket)
            .field("description", &self.description)
            .field("headers", &Names(&self.headers))
            .field("metadata", &Names(&self.metadata))
            .field("size", &self.size)
            .field("chunks", &self.chunks)
            .field("max_chunk_size", &self.max_chunk_size)
            .field("digest", &self.digest)
            .field("modified", &self.modified)
            .field("id", &self.id)
            .field("revision", &self.revision)
            .field("link", &self.link)
            .finish()
    }
}

/// Prints the names alone: values may be secrets.
pub(super) struct Names<'a, V>(pub(super) &'a BTreeMap<String, V>);

impl<V> fmt::Debug for Names<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a link stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Link {
    /// The full name of a bucket.
    pub bucket: String,
    /// An object in it; `None` for the bucket itself.
    pub name: Option<String>,
}

impl Link {
    /// A link to an object; the bucket by its full name.
    #[must_use]
    pub fn to_object(bucket: impl Into<String>, name: impl Into<String>) -> Self {
        Link { bucket: bucket.into(), name: Some(name.into()) }
    }

    /// A link to a bucket, by its full name.
    #[must_use]
    pub fn to_bucket(bucket: impl Into<String>) -> Self {
        Link { bucket: bucket.into(), name: None }
    }
}

/// What happened to an object: [`Objects::watch`](super::Objects::watch).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly all events are the large one")]
pub enum Event {
    /// An object or a link was stored or changed, or was there at the beginning.
    Put(ObjectInfo),
    /// It was deleted or renamed, its lifetime ended, or a bucket that was made anew does not have it.
    Deleted {
        /// Its name.
        name: String,
        /// The revision of the delete, or the last one known where the end left no trace.
        revision: u64,
    },
    /// All objects that were there at the beginning have been told; what follows are changes. It
    /// comes once, also for an empty bucket.
    Current,
}

impl Event {
    /// The name of the object; `None` for [`Current`](Self::Current).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Event::Put(info) => Some(&info.name),
            Event::Deleted { name, .. } => Some(name),
            Event::Current => None,
        }
    }
}
