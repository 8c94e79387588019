//! What streams from a bucket: the names of its keys, the history of one, and what happens to them.
//!
//! All of it stands on an ordered [`Consumer`] of the bucket's stream, in the server's memory and on
//! one server, which is pulled from in bounded batches and made anew after any doubt.

mod compare;
mod live;
mod names;
mod watch;

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;

use self::names::Names;
pub(super) use self::watch::watch;
use super::bucket::Bucket;
use super::{is_gone, message};
use crate::connector::Link;
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::feed::{Consumer, Delivered, Next, Start};
use crate::kv::Key;
use crate::kv::driver::{Filter, Update, What};
use crate::kv::retry::Retry;

impl Delivered {
    /// What the message did to its key.
    fn what(self, bucket: &Bucket) -> What {
        let headers = message::Headers::read(self.headers.as_ref());
        message::what(bucket, &headers, self.sequence, self.stored, self.payload)
    }
}

/// Whether a server takes more than one subject for a consumer.
const SEVERAL_SUBJECTS: (u64, u64, u64) = (2, 10, 0);

/// The part of the bucket that a filter is about, as this server can filter.
async fn names(
    link: &Link,
    bucket: &Bucket,
    filter: Filter<'_>,
    deadline: Instant,
) -> Result<Names> {
    let several = link.capabilities(deadline).await?.version() >= SEVERAL_SUBJECTS;
    Names::new(bucket, filter, several)
}

/// The names of the keys that have a value.
pub(super) async fn list(
    link: &Arc<Link>,
    bucket: Arc<Bucket>,
    filter: Filter<'_>,
    deadline: Instant,
) -> Result<BoxStream<'static, Result<String>>> {
    let names = names(link, &bucket, filter, deadline).await?;
    let mut listing = Listing {
        link: link.clone(),
        bucket,
        names,
        consumer: None,
        told: HashSet::default(),
        hasher: RandomState::new(),
        deadline,
    };
    listing.begin().await?;
    let names = stream::try_unfold(Box::new(listing), |mut listing| async {
        Ok(listing.next().await?.map(|name| (name, listing)))
    });
    Ok(names.boxed())
}

struct Listing {
    link: Arc<Link>,
    bucket: Arc<Bucket>,
    names: Names,
    consumer: Option<Consumer>,
    /// The hashes of the keys that were told: a key that is written meanwhile, or seen again after a
    /// lost connection, comes again. This is all that grows, by about 16 bytes for a key.
    told: HashSet<u64, BuildHasherDefault<Hashed>>,
    hasher: RandomState,
    deadline: Instant,
}

/// Takes a hash as it is.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Listing {
    /// Makes the consumer, again where that may help.
    async fn begin(&mut self) -> Result<()> {
        let mut retry = Retry::until(self.deadline);
        loop {
            let Listing { link, bucket, names, deadline, .. } = self;
            let made = Consumer::create(
                link,
                &bucket.stream,
                &names.subjects,
                Start::Last,
                true,
                *deadline,
            );
            match made.await {
                Ok(consumer) => {
                    self.consumer = Some(consumer);
                    return Ok(());
                }
                Err(error) if is_retryable(&error) && retry.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<String>> {
        loop {
            let Some(consumer) = &mut self.consumer else { return Ok(None) };
            if consumer.has_ended() {
                self.consumer = None;
                return Ok(None);
            }
            let next = within(self.deadline, consumer.next()).await.map_err(|_| {
                let message =
                    "the listing took longer than the time limit; give it a longer timeout";
                Error::new(ErrorKind::Timeout, message)
            })?;
            match next {
                Next::Message(message) => {
                    let Some(name) = self.names.name(&message.subject) else { continue };
                    let what = message.what(&self.bucket);
                    if matches!(what, What::Put(entry) if !message::has_ended(&entry))
                        && self.told.insert(self.hasher.hash_one(&name))
                    {
                        return Ok(Some(name));
                    }
                }
                Next::CaughtUp => self.consumer = None,
                Next::Lost(error) if is_final(&error) => return Err(error),
                Next::Lost(error) => {
                    tracing::debug!(%error, "a listing begins again");
                    self.begin().await?;
                }
            }
        }
    }
}

/// What the bucket still has of a key, oldest first.
pub(super) async fn history(
    link: &Arc<Link>,
    bucket: &Bucket,
    key: Key<'_>,
    deadline: Instant,
) -> Result<Vec<Update>> {
    let subjects = [bucket.subject(key)?];
    let mut retry = Retry::until(deadline);
    loop {
        match history_once(link, bucket, &subjects, key, deadline).await {
            Err(error) if is_retryable(&error) && retry.pause().await => {}
            Ok(None) if retry.pause().await => {}
            told => {
                let lost = || Error::new(ErrorKind::Unavailable, "the history was lost on its way");
                return told.and_then(|updates| updates.ok_or_else(lost));
            }
        }
    }
}

/// `None` when messages were lost.
async fn history_once(
    link: &Arc<Link>,
    bucket: &Bucket,
    subjects: &[String],
    key: Key<'_>,
    deadline: Instant,
) -> Result<Option<Vec<Update>>> {
    let made = Consumer::create(link, &bucket.stream, subjects, Start::First, false, deadline);
    let mut consumer = made.await?;
    let mut updates = Vec::new();
    while !consumer.has_ended() {
        let next = within(deadline, consumer.next()).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, "the history did not come within the deadline")
        })?;
        match next {
            Next::Message(message) => {
                let revision = message.sequence;
                let what = message.what(bucket);
                updates.push(Update::new(key.name().to_owned(), revision, what));
            }
            Next::CaughtUp => break,
            Next::Lost(error) if is_final(&error) => return Err(error),
            Next::Lost(_) => return Ok(None),
        }
    }
    Ok(Some(updates))
}

/// Whether a consumer could not be made for now. A bucket that is gone is the caller's to look for.
fn is_retryable(error: &Error) -> bool {
    is_gone(error) && !error.is_not_found()
}

/// What no other try can change.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Closed)
}
