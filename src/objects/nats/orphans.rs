//! Bytes that belong to no object, as a process that is killed in an upload leaves them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use tokio::time::Instant;

use super::place::Place;
use super::watch::list;
use crate::connector::Link;
use crate::error::Result;
use crate::jetstream;

/// Takes out what no object has and what is older than `age`; from how many uploads it was.
pub(super) async fn purge(
    link: &Arc<Link>,
    place: Place,
    age: Duration,
    deadline: Instant,
) -> Result<u64> {
    let Some(info) = jetstream::info(link, &place.stream, deadline).await? else { return Ok(0) };
    // The chunks first: what is shown since is among the objects then.
    let all = format!("$O.{}.C.>", place.bucket);
    let subjects = place.subjects(link, &all, deadline).await?;
    let objects = list(link, place.clone(), deadline).await?;
    let known: HashSet<String> =
        objects.map_ok(|info| place.chunks(&info.id)).try_collect().await?;
    let now = info.clock.server(SystemTime::now()).unwrap_or_else(SystemTime::now);
    let mut purged = 0;
    for subject in subjects.into_keys().filter(|subject| !known.contains(subject)) {
        let last = place.last_of_leader(link, &subject, deadline).await?;
        let stored = last.and_then(|last| last.stored);
        let Some(is) = stored.and_then(|stored| now.duration_since(stored).ok()) else { continue };
        if is < age {
            continue;
        }
        place.purge_subject(link, &subject, deadline).await?;
        purged += 1;
    }
    Ok(purged)
}
