//! Effects that are one with the mark.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::kv::{BucketConfig, Kv};
use nats_connector::layers::Dedupe;
use nats_connector::pubsub::{Message, Outcome, with};
use nats_connector::{BoxError, Connector, ErrorKind, Result};
use testkit::{Program, Proxy, Server, Version, eventually};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::dedupe::publish;
use super::{FOREVER, LIMIT, connect, connectors, done, failure};

/// Makes this program a member when it runs again as a child.
const MEMBER: &str = "LAYERS_ONCE_MEMBER";

/// What a handler works with.
#[derive(Clone)]
struct Work {
    bucket: Kv,
    dedupe: Dedupe,
    calls: Arc<AtomicU64>,
    commits: UnboundedSender<Result<Vec<u64>>>,
}

impl Work {
    fn new(bucket: Kv) -> (Work, UnboundedReceiver<Result<Vec<u64>>>) {
        let (commits, committed) = unbounded_channel();
        let dedupe = Dedupe::new(bucket.clone(), "bill");
        (Work { bucket, dedupe, calls: Arc::default(), commits }, committed)
    }

    fn of(connector: &Connector) -> (Work, UnboundedReceiver<Result<Vec<u64>>>) {
        Work::new(connector.kv().bucket("done"))
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts up what the message names, and tells what became of it.
    async fn count_up(&self, msg: &Message) -> Result<(), BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let key = effect(&String::from_utf8_lossy(msg.payload()));
        let before = self.bucket.entry::<u64>(&key).consistent().await?;
        let transaction = self.dedupe.transaction(msg)?;
        let transaction = match before {
            None => transaction.create(key, &1),
            Some(before) => transaction.set_if_revision(key, &(before.value + 1), before.revision),
        };
        let committed = transaction.await;
        let failed = committed.is_err();
        self.commits.send(committed).unwrap();
        if failed { Err(failure("not committed")) } else { Ok(()) }
    }

    async fn effect(&self, name: &str) -> Option<u64> {
        self.bucket.get(effect(name)).consistent().await.unwrap()
    }
}

fn effect(name: &str) -> String {
    format!("effects.{name}")
}

async fn count_up(work: Work, msg: Message) -> Result<(), BoxError> {
    work.count_up(&msg).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_marks() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (work, mut commits) = Work::of(&connector);
        let call = pubsub.subscribe("t", with(work.clone(), count_up)).layer(work.dedupe.clone());
        let subscription = call.await.unwrap();
        for id in ["a", "b", "a"] {
            publish(&pubsub, id, "sum").await;
        }
        done(&subscription, 3).await;
        for _ in 0..2 {
            assert_eq!(commits.recv().await.unwrap().unwrap().len(), 1);
        }
        assert_eq!((work.calls(), work.effect("sum").await), (2, Some(2)));
        let stats = work.dedupe.stats();
        assert_eq!((stats.handled, stats.skipped), (2, 1));
        assert_eq!(subscription.stats().handled, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_gives_after_its_commit_is_not_looked_at() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (work, _commits) = Work::of(&connector);
        let handler = with(work.clone(), |work, msg: Message| async move {
            work.count_up(&msg).await?;
            match &msg.payload()[..] {
                b"fail" => Err(failure("as told")),
                b"retry" => Ok(Outcome::retry()),
                b"reject" => Ok(Outcome::reject("no")),
                _ => panic!("as told"),
            }
        });
        let call = pubsub.subscribe("t", handler).layer(work.dedupe.clone());
        let subscription = call.await.unwrap();
        for name in ["fail", "retry", "reject", "panic"] {
            publish(&pubsub, name, name).await;
            publish(&pubsub, name, name).await;
        }
        done(&subscription, 8).await;
        let stats = subscription.stats();
        assert_eq!((stats.handled, stats.failed, stats.panicked), (7, 0, 1));
        assert_eq!((work.calls(), work.dedupe.stats().skipped), (4, 4));
        for name in ["fail", "retry", "reject", "panic"] {
            assert_eq!(work.effect(name).await, Some(1), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_claim_commits_nothing() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (work, mut commits) = Work::of(&connector);
        let handler = with(work.clone(), |work, msg: Message| async move {
            match (work.calls(), msg.payload() == "taken") {
                (0, _) => work.bucket.delete("bill/id/lost").await?,
                // Somebody else, as after the end of a lease.
                (_, true) => {
                    work.bucket.set_raw("bill/id/taken", "working x").await?;
                }
                _ => {}
            }
            work.count_up(&msg).await
        });
        let call = pubsub.subscribe("t", handler).layer(work.dedupe.clone());
        let subscription = call.await.unwrap();
        for (n, name) in (1..).zip(["lost", "taken"]) {
            publish(&pubsub, name, name).await;
            done(&subscription, n).await;
            let error = commits.recv().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert!(error.to_string().contains("the claim was lost"), "{error}");
            assert_eq!(work.effect(name).await, None);
        }
        assert_eq!(subscription.stats().failed, 2);
        // Nothing was marked, and the next one is handled.
        publish(&pubsub, "lost", "lost").await;
        done(&subscription, 3).await;
        assert_eq!(work.effect("lost").await, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_the_effect_leaves_the_claim() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (work, _commits) = Work::of(&connector);
        work.bucket.set(effect("taken"), &1).await.unwrap();
        work.bucket.set(effect("gone"), &1).await.unwrap();
        work.bucket.delete(effect("gone")).await.unwrap();
        let handler = with(work.clone(), |work, msg: Message| async move {
            let taken = work.dedupe.transaction(&msg)?.create(effect("taken"), &2).await;
            assert_eq!(taken.unwrap_err().kind(), ErrorKind::AlreadyExists);
            let twice = work.dedupe.transaction(&msg)?.delete("bill/id/same").await;
            assert_eq!(twice.unwrap_err().kind(), ErrorKind::InvalidInput);
            let both = work.dedupe.transaction(&msg)?.create(effect("gone"), &2);
            let both = both.set(effect("taken"), &2).await?;
            assert_eq!(both.len(), 2);
            let again = work.dedupe.transaction(&msg)?.set(effect("taken"), &3).await;
            assert_eq!(again.unwrap_err().kind(), ErrorKind::InvalidInput);
            Ok::<_, BoxError>(())
        });
        let call = pubsub.subscribe("t", handler).layer(work.dedupe.clone());
        let subscription = call.await.unwrap();
        publish(&pubsub, "same", "x").await;
        done(&subscription, 1).await;
        assert_eq!(subscription.stats().handled, 1);
        assert_eq!((work.effect("taken").await, work.effect("gone").await), (Some(2), Some(2)));
        assert_eq!(work.dedupe.stats().handled, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_a_run_there_is_no_transaction() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (work, _commits) = Work::of(&connector);
        let (messages, mut seen) = unbounded_channel();
        let handler = with((work.clone(), messages), |(work, messages), msg: Message| async move {
            let call = work.dedupe.transaction(&msg);
            messages.send((msg, call)).unwrap();
        });
        let call = pubsub.subscribe("t", handler).layer(work.dedupe.clone());
        let subscription = call.await.unwrap();
        publish(&pubsub, "same", "x").await;
        pubsub.publish_bytes("t", "without an id").await.unwrap();
        done(&subscription, 2).await;
        // Begun inside, committed after the end.
        let (message, call) = seen.recv().await.unwrap();
        let late = call.unwrap().set(effect("late"), &1).await.unwrap_err();
        let ended = work.dedupe.transaction(&message).unwrap_err();
        let (_, without) = seen.recv().await.unwrap();
        for error in [late, ended, without.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains("handler"), "{error}");
        }
        assert_eq!(work.effect("late").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_transactions_is_refused_before_anything_is_written() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let config = BucketConfig::new("plain").transactions(false);
        let bucket = connector.kv().create_bucket(config).await.unwrap();
        refused(&connector, bucket).await;
    }
    if testkit::require(Version::V2_11) {
        let old = Server::builder().version(Version::V2_11).jetstream().start().await;
        let connector = connect(&old.url()).await;
        refused(&connector, connector.kv().bucket("done")).await;
    }
}

async fn refused(connector: &Connector, bucket: Kv) {
    let pubsub = connector.pubsub();
    let (work, mut commits) = Work::new(bucket);
    let call = pubsub.subscribe("t", with(work.clone(), count_up)).layer(work.dedupe.clone());
    let subscription = call.await.unwrap();
    publish(&pubsub, "same", "x").await;
    let error = commits.recv().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    done(&subscription, 1).await;
    assert_eq!((subscription.stats().failed, work.effect("x").await), (1, None));
    assert!(!work.bucket.exists("bill/id/same").consistent().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_and_renewals_do_not_collide() {
    const MESSAGES: u64 = 24;
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let pubsub = connect(&server.url()).await.pubsub();
    let (work, _commits) = Work::of(&connect(&proxy.url()).await);
    // A renewal at each second that takes a while.
    proxy.set_delay(Duration::from_millis(30));
    let dedupe = work.dedupe.clone().lease(Duration::from_secs(3));
    let handler = with(work.clone(), |work, msg: Message| async move {
        let number: u64 = msg.header("Nats-Msg-Id").unwrap_or_default().parse()?;
        sleep(Duration::from_millis(800 + number * 20)).await;
        let name = effect(&number.to_string());
        work.dedupe.transaction(&msg)?.create(name, &1).await?;
        Ok::<_, BoxError>(())
    });
    let call = pubsub.subscribe("t", handler).concurrency(MESSAGES as usize).layer(dedupe);
    let subscription = call.await.unwrap();
    for number in 0..MESSAGES {
        publish(&pubsub, &number.to_string(), "x").await;
    }
    done(&subscription, MESSAGES).await;
    assert_eq!(subscription.stats().handled, MESSAGES);
    for number in 0..MESSAGES {
        assert_eq!(work.effect(&number.to_string()).await, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_tells_whether_a_commit_without_an_answer_took_place() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Arc::new(Proxy::start(server.address()));
    let pubsub = connect(&server.url()).await.pubsub();
    let (work, _commits) = Work::of(&connect(&proxy.url()).await);
    let state = (work.clone(), proxy.clone());
    let handler = with(state, |(work, proxy), msg: Message| async move {
        work.calls.fetch_add(1, Ordering::SeqCst);
        let transaction = work.dedupe.transaction(&msg)?.create(effect("x"), &1);
        // The request goes through, its answer comes too late.
        work.bucket.exists(effect("x")).await?;
        proxy.set_delays(Duration::ZERO, Duration::from_secs(3));
        let error = transaction.timeout(Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        // As if all were well.
        Ok::<_, BoxError>(())
    });
    let call = pubsub.subscribe("t", handler).layer(work.dedupe.clone());
    let subscription = call.await.unwrap();
    publish(&pubsub, "same", "x").await;
    done(&subscription, 1).await;
    assert_eq!((subscription.stats().failed, work.calls()), (1, 1));
    proxy.set_delay(Duration::ZERO);
    assert_eq!(work.effect("x").await, Some(1));
    publish(&pubsub, "same", "x").await;
    done(&subscription, 2).await;
    assert_eq!((work.calls(), work.dedupe.stats().skipped), (1, 1));
}

/// The child's part: commits, and hangs until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn member() {
    let Ok(server) = std::env::var(MEMBER) else { return };
    let connector = connect(&server).await;
    let (work, _commits) = Work::of(&connector);
    let handler = with(work.clone(), |work, msg: Message| async move {
        work.count_up(&msg).await?;
        println!("committed");
        sleep(FOREVER).await;
        Ok::<_, BoxError>(())
    });
    let call = connector.pubsub().subscribe("t", handler).layer(work.dedupe.clone());
    let _subscription = call.await.unwrap();
    println!("ready");
    // Until the parent ends it.
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_what_was_committed_is_not_handled_again() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server.url()).await;
    let pubsub = connector.pubsub();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["once::member", "--exact", "--nocapture"]).env(MEMBER, server.url());
    let mut child = Program::start(&mut command);
    child.wait_for("ready", LIMIT);
    publish(&pubsub, "same", "x").await;
    child.wait_for("committed", LIMIT);
    child.signal("KILL");
    assert!(!child.wait(LIMIT).success());

    let (work, _commits) = Work::of(&connector);
    assert_eq!(work.effect("x").await, Some(1));
    let call = pubsub.subscribe("t", with(work.clone(), count_up)).layer(work.dedupe.clone());
    let subscription = call.await.unwrap();
    publish(&pubsub, "same", "x").await;
    eventually(LIMIT, || async { subscription.stats().handled == 1 }).await;
    assert_eq!((work.calls(), work.effect("x").await), (0, Some(1)));
    assert_eq!(work.dedupe.stats().skipped, 1);
}
