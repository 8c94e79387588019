//! A bucket as the server has it: what reads and writes need of its stream.

use std::time::{Duration, SystemTime};

use super::api::Info;
use super::clock::Clock;
use super::config::kept_codec;
use crate::connector::Link;
use crate::error::Result;
use crate::kv::{Key, KeyCodec};

/// A bucket's subjects and the options that decide how it is read and written.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) stream: String,
    /// `$KV.<bucket>.`, as messages are stored.
    pub(super) subjects: String,
    /// The same with the API prefix of a domain in front, as messages are sent.
    pub(super) write_subjects: String,
    /// Where copies answer reads of a subject.
    pub(super) read_subjects: String,
    pub(super) codec: KeyCodec,
    /// Any copy answers reads, not only the leader.
    pub(super) direct: bool,
    /// A delete's marker may be given a lifetime: the server honours it, and no older value of the
    /// key can come back when it ends.
    pub(super) markers_expire: bool,
    pub(super) max_value_size: Option<usize>,
    /// How long the bucket keeps a value, where it has a limit.
    pub(super) max_age: Option<Duration>,
    /// When it was made: one that was made anew has other revisions.
    pub(super) created: Option<SystemTime>,
    /// The clock that its times and lifetimes are told by.
    pub(super) clock: Clock,
    /// Read from the server; else assumed, because this user may not ask.
    pub(super) known: bool,
}

impl Bucket {
    /// The bucket that `info` tells of.
    pub(super) fn new(link: &Link, name: &str, info: &Info, codec: KeyCodec) -> Self {
        Bucket {
            codec: kept_codec(info).unwrap_or(codec),
            direct: info.flag("allow_direct"),
            markers_expire: info.flag("allow_msg_ttl") && info.number("max_msgs_per_subject") == 1,
            max_value_size: usize::try_from(info.number("max_msg_size")).ok().filter(|n| *n > 0),
            max_age: info.max_age(),
            created: info.created(),
            clock: info.clock,
            known: true,
            ..Bucket::assumed(link, name, codec)
        }
    }

    /// The bucket `name` where the server cannot be asked: as this crate makes buckets.
    pub(super) fn assumed(link: &Link, name: &str, codec: KeyCodec) -> Self {
        let mut bucket = Bucket::named(name, codec);
        let Bucket { stream, subjects, .. } = &bucket;
        let write_subjects = link.js_put_prefix().map(|prefix| format!("{prefix}.{subjects}"));
        let read_subjects = link.js_subject(&format!("DIRECT.GET.{stream}.{subjects}"));
        bucket.write_subjects = write_subjects.unwrap_or_else(|| subjects.clone());
        bucket.read_subjects = read_subjects.into_string();
        bucket
    }

    /// The bucket `name` as messages show it, which nobody has asked for yet.
    pub(super) fn named(name: &str, codec: KeyCodec) -> Self {
        Bucket {
            stream: stream_name(name),
            subjects: format!("$KV.{name}."),
            write_subjects: String::new(),
            read_subjects: String::new(),
            codec,
            direct: true,
            markers_expire: false,
            max_value_size: None,
            max_age: None,
            created: None,
            clock: Clock::default(),
            known: false,
        }
    }

    /// The subject that `key` is stored under.
    pub(super) fn subject(&self, key: Key<'_>) -> Result<String> {
        self.join(&self.subjects, key)
    }

    /// The subject that a write of `key` is sent to.
    pub(super) fn write_subject(&self, key: Key<'_>) -> Result<String> {
        self.join(&self.write_subjects, key)
    }

    /// The subject of a read of `key` that any copy may answer.
    pub(super) fn read_subject(&self, key: Key<'_>) -> Result<String> {
        self.join(&self.read_subjects, key)
    }

    fn join(&self, subjects: &str, key: Key<'_>) -> Result<String> {
        let room = key.prefix().len() + 1 + key.name().len();
        let mut subject = String::with_capacity(subjects.len() + room);
        subject.push_str(subjects);
        self.codec.encode(key, &mut subject)?;
        Ok(subject)
    }
}

/// The stream that holds a bucket (ADR-8).
pub(super) fn stream_name(bucket: &str) -> String {
    format!("KV_{bucket}")
}
