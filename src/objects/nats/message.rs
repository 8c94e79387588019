//! The message that tells of an object, as all clients of ADR-20 write and read it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::objects::driver::Draft;
use crate::objects::{Link, ObjectInfo};

/// What is told of an object. Clients leave out what is empty, or write `null`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    #[serde(default)]
    bucket: String,
    #[serde(default)]
    pub(super) nuid: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) chunks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    digest: String,
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "is_false")]
    pub(super) deleted: bool,
    /// What later versions of other clients add is kept.
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<LinkTo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_chunk_size: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LinkTo {
    bucket: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Meta {
    fn new(bucket: &str, name: &str) -> Self {
        Meta {
            name: name.to_owned(),
            description: None,
            headers: BTreeMap::new(),
            metadata: BTreeMap::new(),
            options: None,
            bucket: bucket.to_owned(),
            nuid: nuid(),
            size: 0,
            chunks: 0,
            mtime: None,
            digest: String::new(),
            deleted: false,
            more: Map::new(),
        }
    }

    /// An object before its bytes are known.
    pub(super) fn of_draft(bucket: &str, draft: Draft, chunk_size: usize) -> Self {
        let options = Options { link: None, max_chunk_size: Some(chunk_size) };
        Meta {
            description: draft.description,
            headers: draft.headers,
            metadata: draft.metadata,
            options: Some(options),
            ..Meta::new(bucket, &draft.name)
        }
    }

    pub(super) fn of_link(bucket: &str, name: &str, to: Link) -> Self {
        let link = LinkTo { bucket: to.bucket, name: to.name };
        let options = Options { link: Some(link), max_chunk_size: None };
        Meta { options: Some(options), ..Meta::new(bucket, name) }
    }

    /// The object with its bytes.
    pub(super) fn complete(&mut self, size: u64, chunks: u64, digest: String) {
        (self.size, self.chunks, self.digest) = (size, chunks, digest);
    }

    /// What is left of an object that is deleted.
    pub(super) fn deleted(mut self) -> Self {
        self.complete(0, 0, String::new());
        self.deleted = true;
        self
    }

    pub(super) fn is_link(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.link.is_some())
    }

    /// Whether it has chunks of its own.
    pub(super) fn has_chunks(&self) -> bool {
        !self.deleted && !self.is_link() && !self.nuid.is_empty()
    }

    pub(super) fn read(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|error| {
            Error::new(ErrorKind::Other, "what the bucket tells of the object cannot be read")
                .with_source(error)
        })
    }

    /// As it is stored now.
    pub(super) fn write(&mut self) -> Result<Bytes> {
        self.mtime = Some(humantime::format_rfc3339_nanos(SystemTime::now()).to_string());
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| {
            Error::new(ErrorKind::Encode, "what is told of the object cannot be written")
                .with_source(error)
        })
    }

    /// The same as users see it.
    pub(super) fn info(
        &self,
        bucket: &str,
        revision: u64,
        stored: Option<SystemTime>,
    ) -> ObjectInfo {
        let options = self.options.as_ref();
        let link = options.and_then(|options| options.link.as_ref());
        ObjectInfo {
            description: self.description.clone().filter(|text| !text.is_empty()),
            headers: self.headers.clone(),
            metadata: self.metadata.clone(),
            size: self.size,
            chunks: self.chunks,
            max_chunk_size: options.and_then(|options| options.max_chunk_size),
            digest: Some(self.digest.clone()).filter(|digest| !digest.is_empty()),
            modified: stored,
            id: self.nuid.clone(),
            revision,
            // Some clients write an empty name for a bucket.
            link: link.map(|to| Link {
                bucket: to.bucket.clone(),
                name: to.name.clone().filter(|name| !name.is_empty()),
            }),
            ..ObjectInfo::new(bucket, &self.name)
        }
    }
}

/// A name for bytes that nobody else gives: a token of 22 letters and digits, as other clients make.
pub(super) fn nuid() -> String {
    use rand::Rng as _;
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = rand::rng();
    (0..22).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_clients_write_is_read() {
        let python =
            br#"{"name":"a","bucket":"b","nuid":"N","size":3,"mtime":"2024-01-01T00:00:00Z",
            "digest":"SHA-256=x","chunks":1,"description":null,"headers":null,"metadata":null,
            "options":{"link":null,"max_chunk_size":131072},"deleted":null,"later":7}"#;
        let meta = Meta::read(python).unwrap();
        let info = meta.info("b", 4, None);
        assert_eq!((info.size, info.max_chunk_size, info.link), (3, Some(131_072), None));
        assert!(!meta.deleted && meta.has_chunks());
        let again: Value = serde_json::from_slice(&meta.clone().write().unwrap()).unwrap();
        assert_eq!(again["later"], 7);
        let go = br#"{"name":"l","options":{"link":{"bucket":"o","name":"x"}},"bucket":"b",
            "nuid":"N","size":0,"mtime":"0001-01-01T00:00:00Z","chunks":0}"#;
        let meta = Meta::read(go).unwrap();
        assert_eq!(meta.info("b", 1, None).link, Some(Link::to_object("o", "x")));
        assert!(meta.is_link() && !meta.has_chunks());
        assert!(Meta::read(b"[]").is_err());
    }

    #[test]
    fn a_deleted_object_keeps_its_name_and_nothing_of_its_bytes() {
        let mut meta = Meta::of_draft("b", Draft::new("a"), 10);
        assert_eq!(meta.nuid.len(), 22);
        meta.complete(7, 1, "SHA-256=x".to_owned());
        let deleted: Value = serde_json::from_slice(&meta.deleted().write().unwrap()).unwrap();
        assert_eq!((&deleted["name"], &deleted["deleted"]), (&"a".into(), &true.into()));
        assert_eq!((&deleted["size"], &deleted["chunks"]), (&0.into(), &0.into()));
        assert_eq!(deleted.get("digest"), None);
    }
}
