//! A comparison of the keys that a watch has told with those that are there, beside the watch.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::names::Names;
use crate::connector::Link;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::jetstream::feed::{Consumer, Next, Start, TRY};
use crate::kv::nats::bucket::Bucket;

/// How many keys are looked at together where the listing leaves doubts.
const LOOKS: usize = 64;

/// A listing of all subjects that have a message, value or not.
pub(super) struct Comparison {
    consumer: Consumer,
    /// The stream's last message before the listing began, as the leader had it.
    until: u64,
    /// The last message that was listed.
    position: u64,
    /// All has been listed.
    is_done: bool,
}

impl Comparison {
    pub(super) async fn begin(
        link: &Arc<Link>,
        bucket: &Bucket,
        names: &Names,
        deadline: Instant,
    ) -> Result<Self> {
        let info = jetstream::info(link, &bucket.stream, deadline).await?;
        let info = info.filter(|info| info.created() == bucket.created);
        let info = info.ok_or_else(|| Error::new(ErrorKind::NotFound, "the bucket is gone"))?;
        let Bucket { stream, .. } = bucket;
        let made = Consumer::create(link, stream, &names.subjects, Start::Last, true, deadline);
        let consumer = made.await?;
        let is_done = consumer.has_ended();
        Ok(Comparison { consumer, until: info.state.last_seq, position: 0, is_done })
    }

    /// The next message of the listing, or its end; never without a comparison.
    pub(super) async fn next(comparison: &mut Option<Self>) -> Next {
        let Some(comparison) = comparison else { return std::future::pending().await };
        if comparison.is_done {
            return Next::CaughtUp;
        }
        let next = comparison.consumer.next().await;
        if let Next::Message(message) = &next {
            comparison.position = message.sequence;
            comparison.is_done = comparison.consumer.has_ended();
        }
        next
    }

    /// The last revision of which a key that was not listed can be known to be gone.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// Those of the keys that were not listed that are gone indeed. What is newer than all that a
    /// copy has listed, it may not have yet: the leader knows.
    pub(super) async fn gone(
        self,
        link: &Link,
        bucket: &Bucket,
        names: &Names,
        has_copies: bool,
        unlisted: Vec<(String, u64)>,
    ) -> Result<Vec<String>> {
        let looks = unlisted.into_iter().map(|(key, revision)| {
            let is_sure = !has_copies || revision <= self.position;
            async move {
                if is_sure {
                    return Ok(Some(key));
                }
                let subject = names.subject(&key)?;
                let deadline = after(TRY);
                let found =
                    jetstream::last_message(link, &bucket.stream, &subject, deadline).await?;
                Ok(found.is_none().then_some(key))
            }
        });
        let looks = stream::iter(looks).buffered(LOOKS);
        looks.try_filter_map(|gone| std::future::ready(Ok(gone))).try_collect().await
    }
}
