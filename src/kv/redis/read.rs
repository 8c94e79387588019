//! Reading keys.
//!
//! Plain commands do for nearly every read, at a fraction of what a script costs the server: a key,
//! then its trace, and what is left of its lifetime. Others may write between these. When the trace
//! fits the value, the value was there with this revision when the trace was read; when anything
//! does not fit, the script looks, which nothing comes between, and which gives a revision to what
//! another program wrote.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::redis::{Pipeline, RedisError, Value as Reply};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use tokio::time::Instant;

use super::pool::{Effect, Pool};
use super::reply;
use super::script::{self, Arguments};
use crate::error::Result;
use crate::kv::driver::{Entry, Found, Value};

/// How far two ways to tell the end of a value may be apart, in milliseconds, for the commands that
/// others ran between ours.
const SLACK: u64 = 50;

/// What is asked of each key.
const COMMANDS: usize = 3;

/// What there is beside a value, or after it.
#[derive(Debug, PartialEq, Eq)]
enum Trace<'a> {
    None,
    Deleted { revision: u64 },
    Value { revision: u64, own: u64, till: u64, digest: &'a str, foreign: bool },
}

/// Reads keys, each given with its trace.
pub(super) async fn read(
    pool: &Pool,
    options: &str,
    keys: &[[String; 2]],
    deadline: Instant,
) -> Result<Vec<Result<Found>>> {
    let mut pipeline = Pipeline::with_capacity(1 + COMMANDS * keys.len());
    pipeline.cmd("TIME");
    for [key, trace] in keys {
        pipeline.cmd("GET").arg(key);
        pipeline.cmd("GET").arg(trace);
        pipeline.cmd("PTTL").arg(key);
    }
    let answer = pool.request(&pipeline, Effect::Read, deadline).await?;
    let mut replies = reply::array(answer)?.into_iter();
    let now = replies.next().and_then(|time| milliseconds(&time)).ok_or_else(reply::unexpected)?;
    let mut found = Vec::with_capacity(keys.len());
    let mut unclear = Vec::new();
    for index in 0..keys.len() {
        let (Some(value), Some(trace), Some(left)) =
            (replies.next(), replies.next(), replies.next())
        else {
            return Err(reply::unexpected());
        };
        let read = fitting(pool, value, trace, &left, now).transpose();
        if read.is_none() {
            unclear.push(index);
        }
        found.push(read.unwrap_or(Ok(Found::NEVER)));
    }
    if !unclear.is_empty() {
        let keys: Vec<_> = unclear.iter().map(|index| &keys[*index]).collect();
        let looked = by_script(pool, options, &keys, deadline).await?;
        for (index, read) in unclear.into_iter().zip(looked) {
            found[index] = read;
        }
    }
    Ok(found)
}

/// What plain commands found; `None` when it does not fit together.
fn fitting(
    pool: &Pool,
    value: Reply,
    trace: Reply,
    left: &Reply,
    now: u64,
) -> Result<Option<Found>> {
    let refusal = [&value, &trace, left].into_iter().find_map(|reply| match reply {
        Reply::ServerError(error) => Some(RedisError::from(error.clone())),
        _ => None,
    });
    if let Some(error) = refusal {
        return Err(pool.refused(&error));
    }
    let trace = reply::bytes(trace)?;
    let Some(trace) = parse(trace.as_deref()) else { return Ok(None) };
    let left = reply::integer(left)?;
    Ok(match (reply::bytes(value)?, trace) {
        (None, Trace::None) => Some(Found::NEVER),
        (None, Trace::Deleted { revision }) => Some(Found::Nothing { revision }),
        (Some(bytes), Trace::Value { revision, own, till, digest, foreign })
            if ends_at(till, now, left) && hex_digest(&bytes) == digest =>
        {
            Some(Found::Value(entry(bytes, revision, own, till, foreign)))
        }
        _ => None,
    })
}

/// Whether what is left of a lifetime is what the trace says.
fn ends_at(till: u64, now: u64, left: i64) -> bool {
    match u64::try_from(left) {
        Ok(left) => till != 0 && (now + left).abs_diff(till) <= SLACK,
        Err(_) => till == 0 && left == -1,
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha1::digest(bytes))
}

/// Reads a trace as shared.lua writes it; `None` for what it never writes.
fn parse(trace: Option<&[u8]>) -> Option<Trace<'_>> {
    let Some(trace) = trace else { return Some(Trace::None) };
    let mut parts = std::str::from_utf8(trace).ok()?.split(' ');
    let revision = parts.next()?.parse().ok()?;
    let Some(own) = parts.next() else { return Some(Trace::Deleted { revision }) };
    let (own, till) = (own.parse().ok()?, parts.next()?.parse().ok()?);
    let digest = parts.next()?;
    let (digest, foreign) = match digest.strip_prefix('x') {
        Some(digest) => (digest, true),
        None => (digest, false),
    };
    Some(Trace::Value { revision, own, till, digest, foreign })
}

async fn by_script(
    pool: &Pool,
    options: &str,
    keys: &[&[String; 2]],
    deadline: Instant,
) -> Result<Vec<Result<Found>>> {
    let mut arguments = Arguments::default();
    arguments.key(options);
    arguments.keys.extend(keys.iter().copied().flatten().cloned());
    let answer = script::READ.run(pool, &arguments, deadline).await?;
    let found = reply::array(answer)?;
    if found.len() != keys.len() {
        return Err(reply::unexpected());
    }
    Ok(found.into_iter().map(scripted).collect())
}

/// What the script found of one key.
fn scripted(found: Reply) -> Result<Found> {
    let parts: [Reply; 5] = reply::array(found)?.try_into().map_err(|_| reply::unexpected())?;
    let [value, revision, own, till, foreign] = parts;
    if reply::integer(&revision)? == -1 {
        return Err(reply::wrong_type());
    }
    let revision = reply::unsigned(&revision)?;
    let Some(bytes) = reply::bytes(value)? else { return Ok(Found::Nothing { revision }) };
    let (own, till) = (reply::unsigned(&own)?, reply::unsigned(&till)?);
    let foreign = reply::integer(&foreign)? != 0;
    Ok(Found::Value(entry(bytes, revision, own, till, foreign)))
}

fn entry(bytes: Bytes, revision: u64, own: u64, till: u64, foreign: bool) -> Entry {
    let time = |millis: u64| (millis > 0).then(|| UNIX_EPOCH + Duration::from_millis(millis));
    let mut entry = Entry::new(Value::new(bytes), revision);
    // When another program stored it is not known.
    entry.created = (!foreign).then(|| written_at(revision));
    entry.expires = time(own);
    entry.ends = time(till);
    entry
}

/// A revision is the time at which it was given.
fn written_at(revision: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(revision)
}

/// The answer to TIME, in milliseconds: seconds and microseconds.
fn milliseconds(time: &Reply) -> Option<u64> {
    let Reply::Array(parts) = time else { return None };
    let mut numbers = parts.iter().map(|part| reply::text(part)?.parse::<u64>().ok());
    let (seconds, micros) = (numbers.next()??, numbers.next()??);
    Some(seconds * 1000 + micros / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read_as_the_scripts_write_them() {
        assert_eq!(parse(None), Some(Trace::None));
        assert_eq!(
            parse(Some(b"1700000000000001")),
            Some(Trace::Deleted { revision: 1_700_000_000_000_001 })
        );
        let value = |foreign| Trace::Value { revision: 7, own: 0, till: 9, digest: "abc", foreign };
        assert_eq!(parse(Some(b"7 0 9 abc")), Some(value(false)));
        assert_eq!(parse(Some(b"7 0 9 xabc")), Some(value(true)));
        for odd in ["", "x", "7 0", "7 0 9", "7 a 9 abc", "-1 0 9 abc"] {
            assert_eq!(parse(Some(odd.as_bytes())), None, "{odd}");
        }
        assert_eq!(parse(Some(&[0xff])), None);
    }

    #[test]
    fn digests_are_those_of_the_scripts() {
        assert_eq!(hex_digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn lifetimes_fit_or_not() {
        assert!(ends_at(0, 1000, -1));
        assert!(ends_at(5000, 1000, 4001) && ends_at(5000, 1000, 3990));
        for (till, left) in [(0, 4000), (5000, -1), (5000, -2), (0, -2), (5000, 2000)] {
            assert!(!ends_at(till, 1000, left), "{till} {left}");
        }
    }
}
