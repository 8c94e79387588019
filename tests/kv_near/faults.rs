//! A checker over what readers of near caches saw while writers wrote, a server was killed and a
//! link was cut.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nats_connector::kv::{Kv, NearCacheConfig};
use testkit::{Proxy, Server, eventually, size};
use tokio::task::JoinSet;

use super::{connect, is_current, until_current};

const WRITERS: usize = 10;
/// How long a broken link may stay unnoticed, and a busy machine be slow.
const UNNOTICED: Duration = Duration::from_secs(8);
/// How long the news of a write may be under way on a link that works.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// A write that was acknowledged.
struct Written {
    value: u64,
    acknowledged: Instant,
}

/// A read, with what the cache said of itself around it.
struct Read {
    key: String,
    value: u64,
    begun: Instant,
    /// Since when the cache was current, if it was before and after.
    current_since: Option<Instant>,
}

fn key(writer: usize) -> String {
    format!("writer:{writer}")
}

/// When to stop, and what was done until then.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    writes: AtomicUsize,
    reads_while_current: AtomicUsize,
}

/// Writes growing numbers to a key of its own, which nobody else writes.
async fn write(kv: Kv, writer: usize, load: Arc<Load>) -> (String, Vec<Written>) {
    let mut history = Vec::new();
    let mut value = 0;
    while !load.stop.load(Ordering::Relaxed) {
        value += 1;
        if kv.set(key(writer), &value).timeout(Duration::from_secs(2)).await.is_ok() {
            history.push(Written { value, acknowledged: Instant::now() });
            load.writes.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    (key(writer), history)
}

/// Reads every writer's key in turn; also writes a key of its own and reads that back.
async fn read(near: Kv, reader: usize, load: Arc<Load>) -> Vec<Read> {
    let (mut reads, mut since) = (Vec::new(), None);
    let (mut generation, mut own_value) = (0, 0_u64);
    while !load.stop.load(Ordering::Relaxed) {
        for writer in 0..WRITERS {
            let before = is_current(&near);
            if before && since.is_none() {
                since = Some(Instant::now());
            }
            let begun = Instant::now();
            let key = key(writer);
            let value = near.get::<u64>(&*key).timeout(Duration::from_secs(2)).await;
            if !(before && is_current(&near)) {
                since = None;
            }
            if let Ok(value) = value {
                let value = value.unwrap_or(0);
                let is_current = usize::from(since.is_some());
                load.reads_while_current.fetch_add(is_current, Ordering::Relaxed);
                reads.push(Read { key, value, begun, current_since: since });
            }
        }
        let next = own_value + 1;
        let own = format!("reader:{reader}:{generation}");
        if near.set(&*own, &next).timeout(Duration::from_secs(2)).await.is_ok() {
            own_value = next;
            if let Ok(found) = near.get::<u64>(&*own).timeout(Duration::from_secs(2)).await {
                assert_eq!(found, Some(next), "what was just written");
            }
        } else {
            // It may be stored later, from the link that was cut: this key is given up.
            (generation, own_value) = (generation + 1, 0);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reads
}

/// Proves that no read went back in time, and none was older than it may be.
fn check(histories: &HashMap<String, Vec<Written>>, reads: &[Read]) {
    let mut latest: HashMap<&str, u64> = HashMap::new();
    for read in reads {
        let seen = latest.entry(&read.key).or_default();
        assert!(read.value >= *seen, "{}: {} after {seen}", read.key, read.value);
        *seen = read.value;
        let acknowledged_by = |moment: Option<Instant>| {
            let history = &histories[&read.key];
            let upto = moment
                .map_or(0, |moment| history.partition_point(|write| write.acknowledged <= moment));
            history[..upto].last().map_or(0, |write| write.value)
        };
        // Whatever the cache thought of itself: not older than a break goes unnoticed.
        let at_least = acknowledged_by(read.begun.checked_sub(UNNOTICED));
        assert!(read.value >= at_least, "{}: {} long after {at_least}", read.key, read.value);
        if let Some(since) = read.current_since {
            // It said that it had caught up: with all that was acknowledged before it said so.
            let at_least = acknowledged_by(since.checked_sub(UNDER_WAY));
            assert!(
                read.value >= at_least,
                "{}: {} although it had caught up with {at_least}",
                read.key,
                read.value
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stale_read_after_it_has_caught_up() {
    let mut server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let writers = connect(&server.url()).await;
    let reader = connect(&proxy.url()).await;
    let plain = reader.kv().bucket("b");
    let near = plain.near_cache(NearCacheConfig::new().max_entries(8)).await.unwrap();
    until_current(&near).await;

    let load = Arc::new(Load::default());
    let (mut writing, mut reading) = (JoinSet::new(), JoinSet::new());
    for writer in 0..WRITERS {
        writing.spawn(write(writers.kv().bucket("b"), writer, load.clone()));
    }
    for number in 0..3 {
        reading.spawn(read(near.clone(), number, load.clone()));
    }
    let pause = || tokio::time::sleep(Duration::from_millis(400));
    for round in 0..size(1, 15) {
        pause().await;
        proxy.cut();
        until_current(&near).await;
        pause().await;
        server.kill().await;
        eventually(Duration::from_secs(60), || async { !is_current(&near) }).await;
        server.restart().await;
        until_current(&near).await;
        pause().await;
        // A link that breaks without a word.
        proxy.black_hole();
        eventually(Duration::from_secs(60), || async { !is_current(&near) }).await;
        proxy.cut();
        proxy.resume();
        until_current(&near).await;
        if round % 2 == 0 {
            proxy.set_delay(Duration::from_millis(5));
        } else {
            proxy.set_delay(Duration::ZERO);
        }
    }
    pause().await;
    for count in [&load.writes, &load.reads_while_current] {
        eventually(Duration::from_secs(60), || async { count.load(Ordering::Relaxed) > 100 }).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    let histories: HashMap<_, _> = writing.join_all().await.into_iter().collect();
    for reads in reading.join_all().await {
        check(&histories, &reads);
    }

    // In the end all see the last of it.
    for (key, history) in &histories {
        let last = history.last().map(|write| write.value).unwrap_or_default();
        let seen =
            || async { near.get::<u64>(&**key).await.is_ok_and(|found| found >= Some(last)) };
        eventually(Duration::from_secs(60), seen).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_made_anew_is_not_answered_from_the_old_one() {
    let server = Server::builder().jetstream().start().await;
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    let near = here.kv().bucket("b").near_cache(NearCacheConfig::new()).await.unwrap();
    for n in 0..20 {
        near.set("key", &n).await.unwrap();
    }
    near.set("gone", &1).await.unwrap();
    until_current(&near).await;
    assert!(there.kv().delete_bucket("b").await.unwrap());
    there.kv().bucket("b").set("key", &100).await.unwrap();
    let seen = || async {
        let key = near.get("key").await.is_ok_and(|value| value == Some(100));
        key && near.exists("gone").await.is_ok_and(|exists| !exists)
    };
    eventually(Duration::from_secs(30), seen).await;
    until_current(&near).await;
    assert_eq!(near.get("key").await.unwrap(), Some(100));
}
