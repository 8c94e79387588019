//! Reads of many keys: a request for up to a thousand of them where the server can (ADR-31), else
//! single reads, a bounded number of them at once.

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use serde::Serialize;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::message::{self, Headers};
use super::{NatsDriver, is_gone};
use crate::connector::Feature;
use crate::connector::link::PATIENCE;
use crate::connector::requests::Answers;
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Key;
use crate::kv::driver::{Consistency, Found};
use crate::kv::retry::Retry;

/// The keys of one request; the server finds at most 1,024.
const CHUNK: usize = 1000;
/// Where the server is to end the answer to one request, in bytes. With those under way at once, it
/// is far below the 64 MB that a server keeps for a connection before it gives that up.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// The requests for many keys of all calls on one connection that are under way at once.
pub(super) const CHUNKS_AT_ONCE: usize = 4;
/// The single reads of one call that are under way at once.
const READS_AT_ONCE: usize = 128;
/// How often a wait for answers looks whether they were lost with their connection.
const LOOK: Duration = Duration::from_millis(100);

/// The status of the message that ends an answer.
const END: u16 = 204;

/// A request for many keys.
#[derive(Serialize)]
struct Request<'a> {
    multi_last: Vec<&'a str>,
    max_bytes: usize,
}

/// A key that is asked for: its subject, and its place among the results.
struct Asked {
    subject: String,
    place: usize,
}

/// How an answer of many messages ended.
enum End {
    /// What was not in it is not there.
    All,
    /// The answer was cut at its size limit.
    Cut,
    /// Something in it did not arrive.
    Gap,
}

impl NatsDriver {
    /// The values of several keys, in their order.
    pub(super) async fn read_many(
        &self,
        name: &str,
        keys: &[Key<'_>],
        consistency: Consistency,
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        let opened = match consistency {
            Consistency::Any if keys.len() > 1 => self.open_for_many(name, deadline).await,
            _ => return self.read_each(name, keys, consistency, deadline).await,
        };
        match opened {
            Ok(Some((bucket, true))) => self.read_chunks(name, &bucket, keys, deadline).await,
            Ok(Some((_, false))) => self.read_each(name, keys, consistency, deadline).await,
            Ok(None) => {
                keys.iter().map(|key| self.check_key(*key).map(|()| Found::NEVER)).collect()
            }
            Err(error) => keys.iter().map(|_| Err(again(&error))).collect(),
        }
    }

    /// The bucket, and whether it answers requests for many keys.
    async fn open_for_many(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<(Arc<Bucket>, bool)>> {
        let Some(bucket) = self.buckets.open(name, deadline).await? else { return Ok(None) };
        let can = self.link.capabilities(deadline).await?.supports(Feature::MultiGet);
        let can = can && bucket.direct && !bucket.refuses_many.load(Ordering::Relaxed);
        Ok(Some((bucket, can)))
    }

    async fn read_each(
        &self,
        name: &str,
        keys: &[Key<'_>],
        consistency: Consistency,
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        let mut results = Vec::with_capacity(keys.len());
        let mut reads = FuturesOrdered::new();
        for key in keys {
            if reads.len() == READS_AT_ONCE {
                results.extend(reads.next().await);
            }
            reads.push_back(self.read(name, *key, consistency, deadline));
        }
        while let Some(result) = reads.next().await {
            results.push(result);
        }
        results
    }

    async fn read_chunks(
        &self,
        name: &str,
        bucket: &Bucket,
        keys: &[Key<'_>],
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        let mut results: Vec<Result<Found>> = keys.iter().map(|_| Ok(Found::NEVER)).collect();
        let mut asked = Vec::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            match bucket.subject(*key) {
                Ok(subject) => asked.push(Asked { subject, place }),
                Err(error) => results[place] = Err(error),
            }
        }
        // In order, so that an answer finds its key, and the same key twice is asked for once.
        asked.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        let mut chunks: VecDeque<&[Asked]> = chunks(&asked, self.request_bytes()).into();
        let mut reads = FuturesOrdered::new();
        loop {
            while reads.len() < CHUNKS_AT_ONCE
                && let Some(chunk) = chunks.pop_front()
            {
                let read = self.read_chunk(name, bucket, keys, chunk, deadline);
                reads.push_back(async move { (chunk, read.await) });
            }
            let Some((chunk, found)) = reads.next().await else { return results };
            for (asked, found) in chunk.iter().zip(found) {
                results[asked.place] = found;
            }
        }
    }

    /// The values of a chunk's keys, in its order.
    async fn read_chunk(
        &self,
        name: &str,
        bucket: &Bucket,
        keys: &[Key<'_>],
        chunk: &[Asked],
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        let mut found: Vec<Option<Found>> = chunk.iter().map(|_| None).collect();
        let all = self.ask(bucket, chunk, &mut found, deadline).await;
        let Err(error) = all else {
            return found.into_iter().map(|found| Ok(found.unwrap_or(Found::NEVER))).collect();
        };
        let waited_in_vain = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Closed);
        if waited_in_vain || (error.kind() == ErrorKind::Unavailable && !is_gone(&error)) {
            return found.into_iter().map(|found| found.ok_or_else(|| again(&error))).collect();
        }
        // Single reads find out what is the matter, or work where this does not.
        if matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Unsupported) {
            bucket.refuses_many.store(true, Ordering::Relaxed);
        }
        let missing = chunk.iter().zip(&found).filter(|(_, found)| found.is_none());
        let missing: Vec<Key<'_>> = missing.map(|(asked, _)| keys[asked.place]).collect();
        let mut read = self.read_each(name, &missing, Consistency::Any, deadline).await.into_iter();
        let mut fill = || read.next().unwrap_or_else(|| Err(again(&error)));
        found.into_iter().map(|found| found.map_or_else(&mut fill, Ok)).collect()
    }

    /// Asks for a chunk's keys until all that there is of them is found.
    async fn ask(
        &self,
        bucket: &Bucket,
        chunk: &[Asked],
        found: &mut [Option<Found>],
        deadline: Instant,
    ) -> Result<()> {
        let turn = within(deadline, self.chunks.acquire()).await;
        let _turn = turn.map_err(|_| {
            Error::new(ErrorKind::Timeout, "other reads of many keys took until the deadline")
        })?;
        let mut retry = Retry::until(deadline);
        loop {
            match self.ask_once(bucket, chunk, found, deadline).await? {
                End::All => return Ok(()),
                End::Cut => {}
                End::Gap if retry.pause().await => {}
                End::Gap => return Err(self.link.no_answer()),
            }
        }
    }

    async fn ask_once(
        &self,
        bucket: &Bucket,
        chunk: &[Asked],
        found: &mut [Option<Found>],
        deadline: Instant,
    ) -> Result<End> {
        let missing = chunk.iter().zip(&*found).filter(|(_, found)| found.is_none());
        let mut subjects: Vec<&str> = missing.map(|(asked, _)| asked.subject.as_str()).collect();
        subjects.dedup();
        let request = Request { multi_last: subjects, max_bytes: ANSWER_BYTES };
        let body = serde_json::to_vec(&request).map_err(|error| {
            Error::new(ErrorKind::Encode, "the request cannot be written").with_source(error)
        })?;
        let connection = self.link.connects();
        let subject = bucket.read_many_subject(&self.link);
        let mut answers = self.link.request_many(subject, Bytes::from(body), deadline).await?;
        let mut last = 0;
        loop {
            let answer = match answers.ready() {
                Some(answer) => answer?,
                None => match self.wait_for(&mut answers, connection, deadline).await? {
                    Some(answer) => answer,
                    None => return Ok(End::Gap),
                },
            };
            if answer.status == Some(StatusCode::NOT_FOUND) && last == 0 {
                return Ok(End::All);
            }
            let ends = answer.status.is_some_and(|status| status == END);
            if answer.status.is_some() && !ends {
                return Err(refused(&answer));
            }
            let headers = Headers::read(answer.headers.as_ref());
            // Each answer tells the one before it.
            if headers.last() != Some(last) {
                return Ok(End::Gap);
            }
            if ends {
                return Ok(match headers.left() {
                    0 => End::All,
                    _ if last == 0 => End::Gap,
                    _ => End::Cut,
                });
            }
            let value = message::copy(bucket, &headers, answer.payload)
                .ok_or_else(|| Error::new(ErrorKind::Other, "a value came without its revision"))?;
            last = value.revision();
            let subject = headers.subject();
            let from = chunk.partition_point(|asked| asked.subject.as_str() < subject);
            let same = chunk[from..].iter().take_while(|asked| asked.subject == subject).count();
            let values = repeat_n(value, same).map(Some);
            found[from..].iter_mut().zip(values).for_each(|(found, value)| *found = value);
        }
    }

    /// Waits for the next answer; `None` when it will not come.
    async fn wait_for(
        &self,
        answers: &mut Answers<'_>,
        connection: u64,
        deadline: Instant,
    ) -> Result<Option<Message>> {
        let begun = Instant::now();
        loop {
            let look = deadline.min(Instant::now() + LOOK);
            match within(look, answers.next()).await {
                Ok(answer) => return answer.map(Some),
                Err(_) if Instant::now() >= deadline => return Err(self.link.no_answer()),
                Err(_) if self.link.connects() != connection => return Ok(None),
                Err(_) if begun.elapsed() >= PATIENCE => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// The most bytes of subjects in one request.
    fn request_bytes(&self) -> usize {
        self.link.client().max_payload() / 2
    }
}

/// Cuts what is asked for into requests.
fn chunks(asked: &[Asked], bytes: usize) -> Vec<&[Asked]> {
    // Quotes, comma, and a byte in six where all of a raw key must be escaped in JSON.
    let size = |asked: &Asked| asked.subject.len() * 6 + 3;
    let mut chunks = Vec::with_capacity(asked.len() / CHUNK + 1);
    let (mut from, mut sum) = (0, 0);
    for (at, one) in asked.iter().enumerate() {
        if at > from && (at - from == CHUNK || sum + size(one) > bytes) {
            chunks.push(&asked[from..at]);
            (from, sum) = (at, 0);
        }
        sum += size(one);
    }
    if from < asked.len() {
        chunks.push(&asked[from..]);
    }
    chunks
}

fn refused(answer: &Message) -> Error {
    let kind = match answer.status {
        // A server that knows no such request sees an empty one.
        Some(StatusCode::TIMEOUT) => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    };
    let said = answer.description.clone().unwrap_or_default();
    Error::new(kind, "the server refused to read many keys at once").with("answer", said)
}

/// The same error for another key.
fn again(error: &Error) -> Error {
    let same = if error.is_no_responders() {
        Error::no_responders(error.to_string())
    } else {
        Error::new(error.kind(), error.to_string())
    };
    match error.context("err_code") {
        Some(code) => same.with("err_code", code),
        None => same,
    }
}
