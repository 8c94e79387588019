//! Many messages while servers and workers are killed: each has its effect exactly once.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use nats_connector::kv::{BucketConfig, Kv};
use nats_connector::layers::Dedupe;
use nats_connector::pubsub::{Message, with};
use nats_connector::{Backoff, BoxError};
use testkit::{Cluster, Program, Server, eventually, size};

use super::run::{Run, job};
use super::worker::{ACK_WAIT, DURABLE};
use super::{LIMIT, connect};

/// Makes this program a worker when it runs again as a child.
const SERVER: &str = "DURABLE_ONCE_WORKER";
const BUCKET: &str = "done";
/// How long it may take until all is handled: minutes for many.
const END_LIMIT: Duration = Duration::from_secs(3600);

fn start_worker(url: &str) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["exactly_once::work", "--exact", "--nocapture"]).env(SERVER, url);
    let mut child = Program::start(&mut command);
    child.wait_for("subscribed", LIMIT);
    child
}

/// The child's part: counts up a key for each job.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn work() {
    let Ok(url) = std::env::var(SERVER) else { return };
    let connector = connect(&url).await;
    // What was lost with a server is soon known as lost.
    let bucket = connector.kv().bucket(BUCKET).with_timeout(Duration::from_secs(2));
    let dedupe = Dedupe::new(bucket.clone(), "work").lease(Duration::from_secs(1));
    let handler = with((bucket, dedupe.clone()), |(bucket, dedupe), msg: Message| async move {
        let key = format!("effects.{}", msg.decode::<String>()?);
        let before = bucket.entry::<u64>(&key).consistent().await?;
        let transaction = dedupe.transaction(&msg)?;
        let transaction = match before {
            None => transaction.create(key, &1),
            Some(before) => transaction.set_if_revision(key, &(before.value + 1), before.revision),
        };
        transaction.await?;
        Ok::<_, BoxError>(())
    });
    let call = connector.pubsub().subscribe("jobs.>", handler).layer(dedupe).concurrency(32);
    let call = call.durable(DURABLE).ack_wait(ACK_WAIT).unlimited_deliveries();
    let call = call.backoff(Backoff::fixed(Duration::from_millis(100)));
    let subscription = call.timeout(LIMIT).await.unwrap();
    println!("subscribed");
    // Until the parent ends it.
    std::future::pending::<()>().await;
    drop(subscription);
}

async fn make_bucket(url: &str, replicas: usize) -> Kv {
    let config = BucketConfig::new(BUCKET).replicas(replicas).transactions(true);
    connect(url).await.kv().create_bucket(config).timeout(LIMIT).await.unwrap()
}

/// Waits until every message is settled, and looks at the effects.
async fn end(mut run: Run, bucket: Kv) {
    run.all_published().await;
    let connector = connect(&run.url).await;
    let stream = connector.jetstream().unwrap().get_stream("JOBS").await.unwrap();
    eventually(END_LIMIT, || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let consumer = stream.consumer_info(DURABLE).await;
        consumer.is_ok_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
    })
    .await;
    let effects = bucket.with_prefix("effects").get_all::<u64>().timeout(LIMIT).await.unwrap();
    let effects: HashMap<String, u64> = effects.into_iter().collect();
    let wrong: Vec<_> = (0..run.total)
        .map(|number| (number, effects.get(&job(number))))
        .filter(|(_, count)| *count != Some(&1))
        .collect();
    assert!(wrong.is_empty(), "{} jobs without exactly one effect: {wrong:?}", wrong.len());
    assert_eq!(effects.len(), run.total, "jobs that nobody published");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_effect_exactly_once_when_server_and_workers_are_killed() {
    let mut server = Server::builder().jetstream().start().await;
    let bucket = make_bucket(&server.url(), 1).await;
    let mut run = Run::start(server.url(), 1, size(500, 100_000), start_worker).await;
    run.kill_server(&mut server, size(2, 5)).await;
    end(run, bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_effect_exactly_once_when_a_cluster_loses_its_leader() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let bucket = make_bucket(&cluster.url(), 3).await;
    let mut run = Run::start(cluster.url(), 3, size(500, 100_000), start_worker).await;
    run.kill_leaders(&mut cluster, size(1, 5)).await;
    end(run, bucket).await;
}
