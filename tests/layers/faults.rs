//! Members that die, and buckets that cannot be reached.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::BoxError;
use nats_connector::layers::Dedupe;
use nats_connector::pubsub::{Message, with};
use testkit::{Program, Proxy, Server, eventually};
use tokio::time::sleep;

use super::dedupe::{count, publish};
use super::{Errors, FOREVER, LIMIT, connect, done};

/// Makes this program a member when it runs again as a child.
const MEMBER: &str = "LAYERS_MEMBER";
const LEASE: Duration = Duration::from_secs(4);

/// The child's part: handles until it is killed; hangs over some messages.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn member() {
    let Ok(server) = std::env::var(MEMBER) else { return };
    let connector = connect(&server).await;
    let dedupe = Dedupe::new(connector.kv().bucket("done"), "bill").lease(LEASE);
    let handler = |msg: Message| async move {
        println!("handles");
        if msg.payload() == "hang" {
            sleep(FOREVER).await;
        }
    };
    let call = connector.pubsub().subscribe("t", handler).queue("members").concurrency(8);
    let _subscription = call.layer(dedupe.clone()).await.unwrap();
    println!("ready");
    eventually(FOREVER, || async { dedupe.stats().handled > 0 }).await;
    println!("marked");
    // Until the parent ends it.
    std::future::pending::<()>().await;
}

fn start_member(server: &Server) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["faults::member", "--exact", "--nocapture"]).env(MEMBER, server.url());
    let mut child = Program::start(&mut command);
    child.wait_for("ready", LIMIT);
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_member_marked_is_skipped_and_what_it_was_at_is_handled() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server.url()).await;
    let pubsub = connector.pubsub();
    let mut child = start_member(&server);
    publish(&pubsub, "done", "x").await;
    child.wait_for("marked", LIMIT);
    publish(&pubsub, "begun", "hang").await;
    child.wait_for("handles", LIMIT);
    child.signal("KILL");
    assert!(!child.wait(LIMIT).success());

    let dedupe = Dedupe::new(connector.kv().bucket("done"), "bill").lease(LEASE);
    let calls = Arc::new(AtomicU64::new(0));
    let call = pubsub.subscribe("t", with(calls.clone(), count)).layer(dedupe.clone());
    let subscription = call.await.unwrap();
    publish(&pubsub, "done", "x").await;
    done(&subscription, 1).await;
    assert_eq!((dedupe.stats().skipped, calls.load(Ordering::SeqCst)), (1, 0));
    // Not before the dead member's lease is over.
    eventually(LIMIT, || async {
        publish(&pubsub, "begun", "x").await;
        sleep(Duration::from_millis(50)).await;
        calls.load(Ordering::SeqCst) == 1
    })
    .await;
    let stats = dedupe.stats();
    assert!(stats.busy > 0 && stats.handled == 1, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_cannot_be_reached_nothing_is_handled_unless_asked_for() {
    let server = Server::builder().jetstream().start().await;
    let mut store = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(store.address());
    let pubsub = connect(&server.url()).await.pubsub();
    let bucket = connect(&proxy.url()).await.kv().bucket("done");
    bucket.set("is there", &()).await.unwrap();
    let dedupe = Dedupe::new(bucket.with_timeout(Duration::from_secs(1)), "bill");

    let (strict, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let failed = Errors::default();
    let call = pubsub.subscribe("t", with(strict.clone(), count)).layer(dedupe.clone());
    let strictly = call.layer(failed.clone()).await.unwrap();
    let fail_open = dedupe.clone().fail_open();
    let call = pubsub.subscribe("t", with(open.clone(), count)).layer(fail_open);
    let openly = call.await.unwrap();

    store.kill().await;
    proxy.refuse();
    proxy.cut();
    publish(&pubsub, "same", "x").await;
    done(&strictly, 1).await;
    done(&openly, 1).await;
    assert_eq!((strictly.stats().failed, strict.load(Ordering::SeqCst)), (1, 0));
    assert_eq!((openly.stats().handled, open.load(Ordering::SeqCst)), (1, 1));
    assert!(failed.all()[0].starts_with("dedupe: "), "{:?}", failed.all());
    assert_eq!(dedupe.stats().unprotected, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_shorter_than_the_lease_repeats_nothing() {
    let server = Server::builder().jetstream().start().await;
    let mut store = Server::builder().jetstream().start().await;
    let proxy = Arc::new(Proxy::start(store.address()));
    let pubsub = connect(&server.url()).await.pubsub();
    let bucket = connect(&proxy.url()).await.kv().bucket("done");
    let dedupe = Dedupe::new(bucket, "bill");
    let calls = Arc::new(AtomicU64::new(0));
    // The effect takes place, and then the mark cannot be stored for a while.
    let handler = with((calls.clone(), proxy.clone()), |(calls, proxy), msg| async move {
        count(calls, msg).await;
        proxy.refuse();
        proxy.cut();
        Ok::<_, BoxError>(())
    });
    let subscription = pubsub.subscribe("t", handler).layer(dedupe.clone()).await.unwrap();
    publish(&pubsub, "same", "x").await;
    eventually(LIMIT, || async { calls.load(Ordering::SeqCst) == 1 }).await;
    store.kill().await;
    store.restart().await;
    assert_eq!(dedupe.stats().handled, 0);
    proxy.resume();
    done(&subscription, 1).await;
    publish(&pubsub, "same", "x").await;
    done(&subscription, 2).await;
    assert_eq!((subscription.stats().handled, calls.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(dedupe.stats().skipped, 1);
}
