//! Counters: exact sums, combined writes.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use futures::future::{join_all, try_join_all};
use futures::poll;
use nats_connector::kv::Kv;
use nats_connector::{ErrorKind, Serializer};
use testkit::{Program, Proxy, Server, Version, eventually, size};

use super::{Stores, connect};

/// Names the server to a child.
const COUNT_ON: &str = "KV_CALLS_COUNT_ON";

#[tokio::test]
async fn counts_from_zero_in_the_handles_serializer() {
    let kv = Kv::memory();
    assert_eq!(kv.increment("n", 5).await.unwrap(), 5);
    assert_eq!(kv.decrement("n", 7).await.unwrap(), -2);
    assert_eq!(kv.increment("n", 0).await.unwrap(), -2);
    assert_eq!(kv.get_raw("n").await.unwrap().as_deref(), Some(&b"-2"[..]));
    kv.set("n", &40).await.unwrap();
    assert_eq!(kv.increment("n", 2).await.unwrap(), 42);
    assert_eq!(kv.get::<u8>("n").await.unwrap(), Some(42));

    // A prefix is a namespace of its own.
    let other = kv.clone().with_prefix("app");
    assert_eq!(other.increment("n", 1).await.unwrap(), 1);

    // What others wrote in their format is read in it.
    let packed = kv.clone().with_serializer(Serializer::message_pack());
    assert_eq!(packed.increment("p", 1000).await.unwrap(), 1000);
    assert_eq!(kv.increment("p", 1).await.unwrap(), 1001);
    let text = kv.clone().with_serializer(Serializer::text());
    text.set("t", "7").await.unwrap();
    assert_eq!(text.increment("t", 1).await.unwrap(), 8);

    // A deleted counter begins anew.
    kv.delete("n").await.unwrap();
    assert_eq!(kv.increment("n", 1).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_no_integer_stays_as_it_is() {
    let kv = Kv::memory().bucket("counts");
    for (key, value) in [("word", "\"5\""), ("null", "null"), ("float", "1.5"), ("empty", "")] {
        kv.set_raw(key, value).await.unwrap();
        let error = kv.increment(key, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert_eq!((error.context("bucket"), error.context("key")), (Some("counts"), Some(key)));
        assert!(error.to_string().starts_with("kv increment: "), "{error}");
        assert_eq!(kv.get_raw(key).await.unwrap().unwrap(), value);
    }
    kv.set("most", &i64::MAX).await.unwrap();
    kv.set("least", &i64::MIN).await.unwrap();
    for error in [
        kv.increment("most", 1).await.unwrap_err(),
        kv.decrement("most", i64::MIN).await.unwrap_err(),
        kv.decrement("least", 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.context("key").is_some() && error.context("bucket") == Some("counts"));
    }
    assert_eq!(kv.get::<i64>("most").await.unwrap(), Some(i64::MAX));
    assert_eq!(kv.decrement("new", i64::MIN + 1).await.unwrap(), i64::MAX);
    assert_eq!(kv.increment("least", i64::MAX).await.unwrap(), -1);
    let error = kv.increment("", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn waiting_calls_share_a_write_and_get_their_own_sums() {
    let server = Server::builder().jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    // One task: all calls have begun before any is answered.
    let sums = join_all((1..=50).map(|n| kv.increment("n", n))).await;
    let mut sum = 0;
    for (n, result) in (1..=50).zip(sums) {
        sum += n;
        assert_eq!(result.unwrap(), sum);
    }
    let entry = kv.entry::<i64>("n").await.unwrap().unwrap();
    assert_eq!(
        (entry.value, entry.revision),
        (sum, 2),
        "the first call's write and one for the rest"
    );

    // One that does not fit fails alone.
    kv.set("n", &(i64::MAX - 10)).await.unwrap();
    let steps = [1, 1, 20, 1, -100, 20];
    let sums = join_all(steps.map(|by| kv.increment("n", by))).await;
    let expected = [Some(-9), Some(-8), None, Some(-7), Some(-107), Some(-87)];
    for (result, expected) in sums.into_iter().zip(expected) {
        match expected {
            Some(below) => assert_eq!(result.unwrap(), i64::MAX + below),
            None => assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_gives_the_lifetime_and_others_leave_it() {
    let minute = Duration::from_secs(60);
    for (store, kv) in Stores::start().await.all() {
        let ends = async |key: &str| kv.get_with_expiration::<i64>(key).await.unwrap().unwrap().1;
        kv.increment("window", 1).ttl_on_create(minute).await.unwrap();
        let end = ends("window").await.unwrap();
        assert!(end <= SystemTime::now() + minute, "{store}");
        kv.increment("window", 1).ttl_on_create(minute * 10).await.unwrap();
        kv.decrement("window", 5).await.unwrap();
        let still = ends("window").await.unwrap();
        let moved = still.duration_since(end).unwrap_or_else(|earlier| earlier.duration());
        assert!(moved < Duration::from_millis(100), "{store}: moved by {moved:?}");

        kv.increment("total", 1).await.unwrap();
        kv.increment("total", 1).ttl_on_create(minute).await.unwrap();
        assert_eq!(ends("total").await, None, "{store}");

        // When the window is over, the next one begins.
        kv.increment("short", 5).ttl_on_create(Duration::from_secs(1)).await.unwrap();
        eventually(Duration::from_secs(10), || async { !kv.exists("short").await.unwrap() }).await;
        assert_eq!(kv.increment("short", 1).await.unwrap(), 1, "{store}");
    }
}

#[tokio::test]
async fn a_dropped_call_harms_no_other() {
    let server = Server::builder().jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    kv.set("n", &0).await.unwrap();

    // Dropped while it waits: not added.
    let (mut first, mut second) = (kv.increment("n", 1), kv.increment("n", 10));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    let third = kv.increment("n", 100);
    drop(second);
    let (first, third) = tokio::join!(first, third);
    assert_eq!((first.unwrap(), third.unwrap()), (1, 101));

    // Dropped at work: the others go on. It may have been stored.
    let mut first = kv.increment("n", 1000);
    assert!(poll!(&mut first).is_pending());
    let mut rest: Vec<_> = (0..10).map(|_| kv.increment("n", 1)).collect();
    for call in &mut rest {
        assert!(poll!(call).is_pending());
    }
    drop(first);
    let sums = try_join_all(rest).await.unwrap();
    let base = sums[0] - 1;
    assert!(base == 101 || base == 1101, "{sums:?}");
    assert_eq!(sums, (1..=10).map(|n| base + n).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_in_time_and_later_ones_work() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let kv = connect(&proxy.url()).await.kv();
    assert_eq!(kv.increment("n", 1).await.unwrap(), 1);
    proxy.black_hole();
    let begun = Instant::now();
    let limits = [600, 200, 400].map(Duration::from_millis);
    let calls = limits.map(|limit| {
        let call = kv.increment("n", 1).timeout(limit);
        async move {
            let error = call.await.unwrap_err();
            (begun.elapsed(), error)
        }
    });
    for (limit, (elapsed, error)) in limits.into_iter().zip(join_all(calls).await) {
        assert!(error.is_timeout() || error.kind() == ErrorKind::Unavailable, "{error}");
        assert!(elapsed < limit + Duration::from_secs(2), "{elapsed:?} with a limit of {limit:?}");
    }
    drop(proxy);
    let kv = connect(&server.url()).await.kv();
    let sum = kv.increment("n", 1).await.unwrap();
    // What the network swallowed was not stored; a read alone had been sent.
    assert_eq!(sum, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_counts_too() {
    if !testkit::require(Version::V2_10) {
        return;
    }
    let server = Server::builder().version(Version::V2_10).jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    let calls = (0..32).map(|_| tokio::spawn(kv.increment("n", 1))).collect::<Vec<_>>();
    let mut sums: Vec<i64> =
        join_all(calls).await.into_iter().map(|sum| sum.unwrap().unwrap()).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=32).collect::<Vec<_>>());
    let error = kv.increment("m", 1).ttl_on_create(Duration::from_secs(9)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(kv.get_raw("m").await.unwrap(), None);
}

/// Increments `n` from many tasks at once.
async fn count(kv: &Kv, tasks: usize, each: usize) {
    let tasks = (0..tasks).map(|_| {
        let kv = kv.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                kv.increment("n", 1).timeout(Duration::from_secs(60)).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Tasks, and increments of each.
fn sizes() -> (usize, usize) {
    size((64, 100), (64, 1000))
}

/// The child's part of the next test.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_counts() {
    let Ok(url) = std::env::var(COUNT_ON) else { return };
    let kv = connect(&url).await.kv();
    let (tasks, each) = sizes();
    count(&kv, tasks, each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_count_exactly() {
    let server = Server::builder().jetstream().start().await;
    let (first, second) = (connect(&server.url()).await.kv(), connect(&server.url()).await.kv());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["counter::a_process_that_counts", "--exact"]).env(COUNT_ON, server.url());
    let mut child = Program::start(&mut child);
    let (tasks, each) = sizes();
    tokio::join!(count(&first, tasks, each), count(&second, tasks, each));
    let ended = tokio::task::spawn_blocking(move || {
        let status = child.wait(Duration::from_secs(300));
        assert!(status.success(), "{}", child.output());
    });
    ended.await.unwrap();
    let expected = u64::try_from(3 * tasks * each).unwrap();
    assert_eq!(first.get::<u64>("n").consistent().await.unwrap(), Some(expected));
}
