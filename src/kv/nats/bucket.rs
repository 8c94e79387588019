//! A bucket as the server has it: what reads and writes need of its stream.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use async_nats::Subject;

use super::config::kept_codec;
use crate::connector::Link;
use crate::error::Result;
use crate::jetstream::Clock;
use crate::jetstream::Info;
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
    /// Single messages may have a lifetime.
    pub(super) ttl: bool,
    /// The shortest lifetime that the server leaves as it is.
    marker_ttl: Duration,
    /// Earlier values of a key are kept.
    pub(super) history: bool,
    /// A message may take the place of all earlier ones of its key.
    pub(super) rollup: bool,
    /// Several keys can be written together.
    pub(super) atomic: bool,
    pub(super) max_value_size: Option<usize>,
    /// How long the bucket keeps a value, where it has a limit.
    pub(super) max_age: Option<Duration>,
    /// When it was made: one that was made anew has other revisions.
    pub(super) created: Option<SystemTime>,
    /// The clock that its times and lifetimes are told by.
    pub(super) clock: Clock,
    /// The server, or this user's permissions, have no requests for many keys here.
    pub(super) refuses_many: AtomicBool,
    /// Read from the server; else assumed, because this user may not ask.
    pub(super) known: bool,
}

impl Bucket {
    /// The bucket that `info` tells of.
    pub(super) fn new(link: &Link, name: &str, info: &Info, codec: KeyCodec) -> Self {
        Bucket {
            codec: kept_codec(info).unwrap_or(codec),
            direct: info.flag("allow_direct"),
            ttl: info.flag("allow_msg_ttl"),
            marker_ttl: info.duration("subject_delete_marker_ttl").unwrap_or_default(),
            history: info.number("max_msgs_per_subject") != 1,
            rollup: info.flag("allow_rollup_hdrs"),
            atomic: info.flag("allow_atomic"),
            max_value_size: usize::try_from(info.number("max_msg_size")).ok().filter(|n| *n > 0),
            max_age: info.duration("max_age"),
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
            ttl: false,
            marker_ttl: Duration::ZERO,
            history: true,
            rollup: true,
            atomic: false,
            max_value_size: None,
            max_age: None,
            created: None,
            clock: Clock::default(),
            refuses_many: AtomicBool::new(false),
            known: false,
        }
    }

    /// Whether a delete's marker may have a lifetime: no older value of its key comes back when it
    /// ends.
    pub(super) fn markers_expire(&self) -> bool {
        self.ttl && !self.history
    }

    /// Whether the server makes a lifetime longer than it is.
    pub(super) fn raises(&self, ttl: Duration) -> bool {
        self.history && ttl < self.marker_ttl
    }

    /// Where copies answer reads of many subjects.
    pub(super) fn read_many_subject(&self, link: &Link) -> Subject {
        link.js_subject(&format!("DIRECT.GET.{}", self.stream))
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

/// What the names of buckets' streams begin with (ADR-8).
pub(super) const STREAM_PREFIX: &str = "KV_";

/// The stream that holds a bucket.
pub(super) fn stream_name(bucket: &str) -> String {
    format!("{STREAM_PREFIX}{bucket}")
}
