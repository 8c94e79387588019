//! Several writes that take place together or not at all: an atomic batch (ADR-50).
//!
//! The messages of a batch are held by the stream's leader until the last one commits them; only
//! that one is answered. A batch that lost a message on the way is refused as a whole, and one
//! without a commit is forgotten by the server after ten seconds.

use std::sync::Arc;

use async_nats::HeaderValue;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use async_nats::message::OutboundMessage;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::write::{Draft, check_same, ends};
use super::{NatsDriver, is_gone, message};
use crate::connector::Feature;
use crate::connector::status::Denied;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::kv::driver::{Change, Condition, Write};
use crate::kv::retry::Retry;

impl NatsDriver {
    /// Makes all changes or none; gives their revisions.
    pub(super) async fn transact(
        &self,
        name: &str,
        writes: &[Write<'_>],
        deadline: Instant,
    ) -> Result<Vec<u64>> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        self.check_writes(writes)?;
        let fits = |write: &Write<'_>| {
            matches!(write.condition, Condition::Always | Condition::Revision(0))
        };
        let mut retry = Retry::until(deadline);
        let mut first = None;
        loop {
            let needs = Some(Feature::Transactions);
            let Some(bucket) = self.bucket_for(name, writes, needs, deadline).await? else {
                return match writes.iter().all(fits) {
                    true => Ok(vec![0; writes.len()]),
                    false => Err(Error::new(ErrorKind::Conflict, "the bucket does not exist")),
                };
            };
            let first = first.get_or_insert_with(|| bucket.clone());
            writes.iter().try_for_each(|write| check_same(first, &bucket, write))?;
            match self.transact_once(name, bucket.clone(), writes, deadline).await {
                Err(error) if jetstream::is_incomplete(&error) => {
                    self.check_permitted(&bucket, writes, deadline).await?;
                    self.recover(name, &bucket, error, &mut retry).await?;
                }
                Err(error) if is_gone(&error) => {
                    self.recover(name, &bucket, error, &mut retry).await?;
                }
                done => return done,
            }
        }
    }

    fn check_writes(&self, writes: &[Write<'_>]) -> Result<()> {
        for write in writes {
            if let Change::Put(value, _) = &write.change {
                self.check_size(value)?;
            }
            if let Condition::Held { .. } = write.condition {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "a transaction's writes cannot depend on a lock; write the lock's key in it, \
                     on the condition of its revision",
                ));
            }
        }
        Ok(())
    }

    /// Only the last message of a batch is answered: what the server told of the others.
    async fn check_permitted(
        &self,
        bucket: &Bucket,
        writes: &[Write<'_>],
        deadline: Instant,
    ) -> Result<()> {
        let subjects: Result<Vec<String>> =
            writes.iter().map(|write| bucket.write_subject(write.key)).collect();
        let subjects = subjects?;
        let ours = |denied: &Denied| denied.publish && subjects.contains(&denied.subject);
        match self.link.refusal(deadline, ours).await? {
            Some(denied) => Err(denied.error()),
            None => Ok(()),
        }
    }

    async fn transact_once(
        &self,
        name: &str,
        bucket: Arc<Bucket>,
        writes: &[Write<'_>],
        deadline: Instant,
    ) -> Result<Vec<u64>> {
        const REFUSAL: &str = "this bucket writes no keys together; switch it on by create_bucket \
                               with BucketConfig::transactions(true)";
        let has = |bucket: &Bucket| bucket.atomic;
        let mut bucket =
            self.with_option(name, bucket, has, Feature::Transactions, REFUSAL, deadline).await?;
        if writes.iter().any(ends) {
            bucket = self.with_ttl(name, bucket, deadline).await?;
        }
        let drafts: Result<Vec<Draft>> =
            writes.iter().map(|write| Draft::new(&bucket, write)).collect();
        let id = format!("{:032x}", rand::random::<u128>());
        let count = writes.len() as u64;
        for (sequence, draft) in (1..).zip(drafts?) {
            let Draft { subject, headers, payload } = draft;
            let mut headers = headers.unwrap_or_default();
            headers.insert(NATS_BATCH_ID, id.as_str());
            headers.insert(NATS_BATCH_SEQUENCE, HeaderValue::from(sequence));
            if sequence < count {
                let headers = Some(headers);
                let message = OutboundMessage { subject, reply: None, payload, headers };
                self.link.publish(message, deadline).await?;
                continue;
            }
            headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
            let commit = self.link.request_change(subject, Some(headers), payload, deadline);
            let ack = message::acknowledged(&commit.await?.payload, &bucket)?;
            if ack.count == Some(count) && ack.revision >= count {
                return Ok((ack.revision - count + 1..=ack.revision).collect());
            }
        }
        Err(Error::new(
            ErrorKind::Other,
            "the server did not take the writes as one; is the one that holds the bucket older than \
             the one connected to?",
        ))
    }
}
