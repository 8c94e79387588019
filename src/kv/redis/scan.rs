//! Going through keys, with SCAN and never KEYS: the server answers others in between.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use ::redis::Value;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;

use super::line::Line;
use super::names::Names;
use super::pool::Pool;
use super::reply;
use crate::error::Result;
use crate::kv::driver::Filter;

/// How many keys the server looks at before it answers: a fraction of a millisecond.
const LOOK_AT: usize = 1000;

/// What to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Values: in the root bucket other types than strings are another program's.
    Strings,
    /// Whatever has such a name.
    Any,
}

/// A walk through all keys that fit a pattern. A key may come twice.
#[derive(Debug)]
pub(super) struct Scan {
    pool: Arc<Pool>,
    /// The cursor means something to one server, so all is asked on one connection.
    line: Arc<Line>,
    pattern: String,
    kind: Kind,
    cursor: Option<String>,
    deadline: Instant,
}

impl Scan {
    pub(super) async fn start(
        pool: Arc<Pool>,
        pattern: String,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Self> {
        let line = pool.line(deadline).await?;
        Ok(Scan { pool, line, pattern, kind, cursor: Some("0".to_owned()), deadline })
    }

    /// The next keys, often none; `None` after the last. What is no text is no key of ours.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<String>>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let mut command = ::redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(LOOK_AT);
        if self.kind == Kind::Strings {
            command.arg("TYPE").arg("string");
        }
        let answer = self.pool.request_on(&self.line, &command, self.deadline).await?;
        let mut parts = reply::array(answer)?.into_iter();
        let (Some(cursor), Some(keys)) = (parts.next(), parts.next()) else {
            return Err(reply::unexpected());
        };
        let cursor = reply::text(&cursor).ok_or_else(reply::unexpected)?;
        self.cursor = Some(cursor).filter(|cursor| cursor != "0");
        let text = |key| match key {
            Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        };
        Ok(Some(reply::array(keys)?.into_iter().filter_map(text).collect()))
    }
}

/// The names that fit a filter, each once.
struct Listing {
    scan: Scan,
    names: Names,
    /// What every name begins with, and does not show.
    prefix: String,
    seen: Seen,
    ready: VecDeque<String>,
}

/// The keys that came already, 16 bytes for each.
#[derive(Default)]
struct Seen {
    hashers: [RandomState; 2],
    digests: HashSet<u128>,
}

impl Seen {
    /// Whether it is the first time. Two keys have the same digest with a chance of 1 to 2^128.
    fn insert(&mut self, key: &str) -> bool {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        self.digests.insert(high << 64 | low)
    }
}

/// Lists the keys of a bucket.
pub(super) async fn list(
    pool: Arc<Pool>,
    names: Names,
    filter: Filter<'_>,
    deadline: Instant,
) -> Result<BoxStream<'static, Result<String>>> {
    let pattern = names.pattern(&filter);
    let scan = Scan::start(pool, pattern, Kind::Strings, deadline).await?;
    let prefix = match filter.prefix {
        "" => String::new(),
        prefix => format!("{prefix}:"),
    };
    let listing = Listing { scan, names, prefix, seen: Seen::default(), ready: VecDeque::new() };
    let names = stream::try_unfold(listing, |mut listing| async move {
        loop {
            if let Some(name) = listing.ready.pop_front() {
                return Ok(Some((name, listing)));
            }
            let Some(keys) = listing.scan.next().await? else { return Ok(None) };
            for stored in keys {
                let name = listing.names.read(&stored);
                let name = name.and_then(|name| name.strip_prefix(listing.prefix.as_str()));
                if let Some(name) = name.filter(|name| !name.is_empty())
                    && listing.seen.insert(name)
                {
                    listing.ready.push_back(name.to_owned());
                }
            }
        }
    });
    Ok(Box::pin(names))
}
