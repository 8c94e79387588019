//! One bucket in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::MAX_PAYLOAD;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Condition, Entry, Found, Value};
use crate::kv::{BucketConfig, Key, KeyCodec};

/// What a nats-server adds to each message in a file: lengths, sequence, time, checksum.
const RECORD: usize = 34;

/// A bucket: its messages by key, each key's oldest first.
pub(super) struct Bucket {
    config: BucketConfig,
    codec: KeyCodec,
    revision: u64,
    bytes: usize,
    keys: HashMap<String, VecDeque<Message>>,
    /// Every message's key by revision, which is the order in which messages grow old.
    order: BTreeMap<u64, (Instant, String)>,
}

/// A value, or the marker of a delete.
struct Message {
    value: Option<Value>,
    revision: u64,
    size: usize,
}

impl Bucket {
    pub(super) fn new(config: &BucketConfig, codec: KeyCodec) -> Result<Self> {
        check_replicas(config)?;
        Ok(Bucket {
            config: config.clone(),
            codec: config.key_codec.unwrap_or(codec),
            revision: 0,
            bytes: 0,
            keys: HashMap::new(),
            order: BTreeMap::new(),
        })
    }

    /// Changes what `change` sets.
    pub(super) fn change(&mut self, change: &BucketConfig) -> Result<()> {
        self.expire();
        check_replicas(change)?;
        let now = &self.config;
        if change.storage.is_some_and(|storage| storage != now.storage.unwrap_or_default()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the storage of a bucket that is there cannot change",
            ));
        }
        if let Some(codec) = change.key_codec {
            if codec != self.codec && !self.order.is_empty() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the key codec of a bucket that holds keys cannot change",
                )
                .with("key_codec", self.codec.as_str()));
            }
            self.codec = codec;
        }
        self.config = now.merged(change);
        let keys: Vec<String> = self.keys.keys().cloned().collect();
        for key in keys {
            self.trim(&key);
        }
        Ok(())
    }

    pub(super) fn get(&mut self, key: Key<'_>) -> Result<Found> {
        let key = self.encode(key)?;
        self.expire();
        let last = self.keys.get(&key).and_then(VecDeque::back);
        Ok(last.map_or(Found::NEVER, |message| match &message.value {
            Some(value) => Found::Value(Entry::new(value.clone(), message.revision)),
            None => Found::Nothing { revision: message.revision },
        }))
    }

    pub(super) fn put(
        &mut self,
        key: Key<'_>,
        value: Value,
        condition: Condition<'_>,
    ) -> Result<u64> {
        let key = self.encode(key)?;
        self.expire();
        if let Condition::Revision(expected) = condition {
            let last = self.keys.get(&key).and_then(VecDeque::back);
            if last.map_or(0, |message| message.revision) != expected {
                return Err(Error::new(ErrorKind::Conflict, "the key has another revision"));
            }
        }
        self.append(&key, Some(value))
    }

    pub(super) fn delete(&mut self, key: Key<'_>) -> Result<()> {
        let key = self.encode(key)?;
        self.expire();
        let last = self.keys.get(&key).and_then(VecDeque::back);
        if last.is_none_or(|message| message.value.is_none()) {
            return Ok(());
        }
        if self.history() > 1 {
            return self.append(&key, None).map(drop);
        }
        self.revision += 1;
        self.remove_oldest(&key);
        Ok(())
    }

    /// The largest value with its headers, in bytes.
    pub(super) fn max_size(&self) -> usize {
        match self.config.max_value_size {
            None | Some(0) => MAX_PAYLOAD,
            Some(bytes) => bytes.min(MAX_PAYLOAD),
        }
    }

    pub(super) fn codec(&self) -> KeyCodec {
        self.codec
    }

    fn encode(&self, key: Key<'_>) -> Result<String> {
        let mut stored = String::new();
        self.codec.encode(key, &mut stored)?;
        Ok(stored)
    }

    fn append(&mut self, key: &str, value: Option<Value>) -> Result<u64> {
        let content = value.as_ref().map_or_else(|| "KV-Operation: DEL".len(), content_size);
        if value.is_some() && content > self.max_size() {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the value with its headers has {content} bytes; the limit is {}",
                    self.max_size()
                ),
            ));
        }
        let size = RECORD + "$KV..".len() + self.config.name.len() + key.len() + content;
        self.check_room(key, size)?;
        self.revision += 1;
        let revision = self.revision;
        self.bytes += size;
        self.order.insert(revision, (Instant::now(), key.to_owned()));
        let message = Message { value, revision, size };
        self.keys.entry(key.to_owned()).or_default().push_back(message);
        self.trim(key);
        Ok(revision)
    }

    /// A full bucket still takes a message that pushes a larger one of its key out.
    fn check_room(&self, key: &str, size: usize) -> Result<()> {
        let Some(max_bytes @ 1..) = self.config.max_bytes else { return Ok(()) };
        let full = u64::try_from(self.bytes + size).is_ok_and(|bytes| bytes >= max_bytes);
        let pushed_out = self
            .keys
            .get(key)
            .filter(|messages| messages.len() >= self.history())
            .and_then(VecDeque::front);
        if full && pushed_out.is_none_or(|message| message.size <= size) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the bucket is full: it may hold {max_bytes} bytes (max_bytes)"),
            ));
        }
        Ok(())
    }

    /// Takes out what a key has beyond the bucket's history.
    fn trim(&mut self, key: &str) {
        let history = self.history();
        while let Some(messages) = self.keys.get(key)
            && messages.len() > history
        {
            self.remove_oldest(key);
        }
    }

    /// Takes out what has outlived the bucket's lifetime.
    fn expire(&mut self) {
        let ttl = self.config.ttl.filter(|ttl| *ttl > Duration::ZERO);
        while let (Some(ttl), Some(oldest)) = (ttl, self.order.first_entry())
            && oldest.get().0.elapsed() >= ttl
        {
            let (_, key) = oldest.remove();
            self.remove_oldest(&key);
        }
    }

    fn remove_oldest(&mut self, key: &str) {
        let Some(messages) = self.keys.get_mut(key) else { return };
        if let Some(message) = messages.pop_front() {
            self.bytes -= message.size;
            self.order.remove(&message.revision);
        }
        if messages.is_empty() {
            self.keys.remove(key);
        }
    }

    fn history(&self) -> usize {
        usize::from(self.config.history.unwrap_or(1))
    }
}

/// The bytes of a value with its headers, as they are sent.
fn content_size(value: &Value) -> usize {
    let header = |text: &String| "NATS/1.0\r\nContent-Type: \r\n\r\n".len() + text.len();
    value.bytes.len() + value.content_type.as_ref().map_or(0, header)
}

fn check_replicas(config: &BucketConfig) -> Result<()> {
    match config.replicas {
        None | Some(1) => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "more than one replica needs a cluster; this store is a single process",
        )),
    }
}
