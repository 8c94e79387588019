//! Holders that die or stop, links that are cut, leaders that are killed.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use nats_connector::kv::{BucketConfig, LockGuard};
use nats_connector::{Connector, Settings};
use testkit::{Cluster, Program, Proxy, Server, eventually, size};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LEASE, LIMIT, connect_to, handles};

/// Makes this program a holder when it runs again as a child.
const HOLDER: &str = "KV_LOCK_HOLDER";

/// The child's part: holds the lock, and writes under it when told to.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn holder() {
    let Ok(server) = std::env::var(HOLDER) else { return };
    let settings = Settings::builder().set("NATS.SERVER", server).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let mut told = connector.pubsub().messages("write").await.unwrap();
    let lock = connector.kv().lock("job").lease(LEASE * 3).await.unwrap();
    println!("held");
    told.next().await.unwrap();
    let written = lock.set("key", "stale").await;
    println!("written: {:?}", written.map_err(|error| error.kind()));
    // Until the parent ends it.
    std::future::pending::<()>().await;
}

fn start_holder(server: &Server) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["faults::holder", "--exact", "--nocapture"]).env(HOLDER, server.url());
    let mut child = Program::start(&mut command);
    child.wait_for("held", LIMIT);
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_killed_frees_its_lock() {
    let (server, [kv]) = handles().await;
    let mut child = start_holder(&server);
    assert!(kv.lock("job").no_wait().await.unwrap_err().is_conflict());
    let waiter = tokio::spawn(kv.lock("job"));
    child.signal("KILL");
    assert!(!child.wait(LIMIT).success());
    let lock = timeout(LIMIT, waiter).await.unwrap().unwrap().unwrap();
    lock.set("key", "mine").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_stopped_past_its_lease_cannot_write() {
    let (server, [kv]) = handles().await;
    let connector = super::connect(&server).await;
    let mut child = start_holder(&server);
    child.signal("STOP");
    let lock = kv.lock("job").await.unwrap();
    lock.set("key", "mine").await.unwrap();
    connector.pubsub().publish("write", &()).await.unwrap();
    connector.pubsub().flush().await.unwrap();
    child.signal("CONT");
    assert_eq!(child.wait_for("written", LIMIT), "written: Err(Conflict)");
    assert_eq!(kv.get::<String>("key").await.unwrap().as_deref(), Some("mine"));
    assert!(lock.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_loses_the_lock_and_a_short_cut_does_not() {
    let (server, [kv]) = handles().await;
    let proxy = Proxy::start(server.address());
    let cut = connect_to(&proxy.url()).await.kv();
    let lock = cut.lock("job").lease(LEASE * 3).await.unwrap();
    for _ in 0..3 {
        let fence = lock.fence();
        proxy.cut();
        eventually(LIMIT, || async { lock.fence() > fence }).await;
    }
    assert!(lock.is_held());
    assert!(kv.lock("job").no_wait().await.unwrap_err().is_conflict());

    proxy.refuse();
    proxy.cut();
    timeout(LIMIT, lock.lost()).await.unwrap();
    assert!(!lock.is_held());
    assert!(lock.set("key", &1).await.unwrap_err().is_conflict());
    let next = kv.lock("job").await.unwrap();
    proxy.resume();
    // The loser takes nothing away.
    lock.release().await.unwrap();
    drop(lock);
    assert!(next.is_held());
    next.set("key", &2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_failed_try_takes_no_lock_away() {
    let (server, [kv]) = handles().await;
    let proxy = Proxy::start(server.address());
    let cut = connect_to(&proxy.url()).await.kv();
    // The bucket is known, so that a try begins with a write.
    cut.lock("other").await.unwrap().release().await.unwrap();
    // The first try is lost, and so is the question what came of it; the next one succeeds.
    proxy.black_hole();
    let waiter = tokio::spawn(cut.lock("job").timeout(LIMIT));
    sleep(Duration::from_millis(100)).await;
    proxy.cut();
    sleep(Duration::from_millis(100)).await;
    proxy.resume();
    let lock = timeout(LIMIT, waiter).await.unwrap().unwrap().unwrap();
    let end = Instant::now() + LEASE * 3;
    while Instant::now() < end {
        assert!(kv.lock("job").no_wait().await.is_err(), "two holders");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(lock.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_link_loses_the_lock() {
    let (server, [kv]) = handles().await;
    let proxy = Proxy::start(server.address());
    let mute = connect_to(&proxy.url()).await.kv();
    let lock = mute.lock("job").lease(LEASE).await.unwrap();
    proxy.black_hole();
    timeout(LIMIT, lock.lost()).await.unwrap();
    assert!(kv.lock("job").await.unwrap().is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_outlive_a_restart_of_the_server() {
    let (mut server, [holder, kv]) = handles().await;
    let lock = holder.lock("job").await.unwrap();
    let waiter = tokio::spawn(kv.lock("job"));
    sleep(Duration::from_millis(100)).await;
    server.kill().await;
    server.restart().await;
    eventually(LIMIT, || async { lock.set("key", &1).await.is_ok() }).await;
    lock.release().await.unwrap();
    let next = timeout(LIMIT, waiter).await.unwrap().unwrap();
    // It may have ended with an error of the outage, then nothing is held.
    match next {
        Ok(lock) => assert!(lock.is_held()),
        Err(error) => assert!(error.is_retryable(), "{error}"),
    }
    assert!(kv.lock("job").await.unwrap().is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn never_two_holders_while_leaders_are_killed() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let observer = connect_to(&cluster.url()).await;
    let config = BucketConfig::new("locks").replicas(3);
    observer.kv().create_bucket(config).timeout(LIMIT).await.unwrap();
    let inside = Arc::new(Mutex::new(Vec::<Arc<LockGuard>>::new()));
    let sections = Arc::new(AtomicU32::new(0));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut contenders = JoinSet::new();
    for _ in 0..8 {
        let connector = connect_to(&cluster.url()).await;
        let (inside, sections, stop) = (inside.clone(), sections.clone(), stop.clone());
        contenders.spawn(async move {
            // A write whose answer is lost must not keep the lock for long.
            let kv = connector.kv().bucket("locks").with_timeout(LEASE * 3);
            let mut made = 0;
            while !stop.load(Ordering::Relaxed) {
                // An outage is told; what it left ends with its lease.
                let lock = kv.lock("count").lease(LEASE * 5).timeout(LIMIT).await;
                let Ok(lock) = lock else { continue };
                let lock = Arc::new(lock);
                {
                    // One that lost its lock in an outage may still be in its section.
                    let mut inside = inside.lock().unwrap();
                    inside.push(lock.clone());
                    assert!(inside.iter().filter(|lock| lock.is_held()).count() < 2, "two holders");
                }
                sleep(Duration::from_millis(2)).await;
                if lock.set("last", &made).await.is_ok() {
                    made += 1;
                    sections.fetch_add(1, Ordering::Relaxed);
                }
                inside.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &lock));
                let _ = lock.release().await;
            }
            made
        });
    }
    for _ in 0..size(2, 8) {
        goes_on(&sections).await;
        let leader = loop {
            let context = observer.jetstream().unwrap();
            if let Ok(stream) = context.get_stream("KV_locks").await
                && let Some(cluster) = &stream.cached_info().cluster
                && let Some(leader) = &cluster.leader
            {
                break leader.clone();
            }
        };
        cluster.node_named(&leader).kill().await;
        goes_on(&sections).await;
        cluster.node_named(&leader).restart().await;
        cluster.ready().await;
    }
    goes_on(&sections).await;
    stop.store(true, Ordering::Relaxed);
    let made: u32 = contenders.join_all().await.into_iter().sum();
    assert!(made > 0 && made == sections.load(Ordering::Relaxed));
}

/// More is done from now on, beside the section that may be at its end.
async fn goes_on(sections: &AtomicU32) {
    let seen = sections.load(Ordering::Relaxed) + 1;
    eventually(LIMIT, || async { sections.load(Ordering::Relaxed) > seen }).await;
}
