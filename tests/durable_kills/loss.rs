//! Many messages while servers and workers are killed: none is lost.

use std::collections::HashSet;
use std::path::PathBuf;

use tempfile::TempDir;
use testkit::{Cluster, Program, Server, eventually, size};

use super::run::{Run, job};
use super::worker::{self, Poison};
use super::{LIMIT, connect};

/// What starts workers that write to the same file, and the file.
fn workers(folder: &TempDir) -> (impl Fn(&str) -> Program + 'static, PathBuf) {
    let effects = folder.path().join("effects");
    let file = effects.clone();
    (move |url: &str| worker::start(url, &file, Poison::Fails), effects)
}

/// Waits for the publishers, and until each message is handled.
async fn end(mut run: Run, effects: PathBuf) {
    run.all_published().await;
    let all: HashSet<String> = (0..run.total).map(job).collect();
    eventually(LIMIT, || async {
        let done = worker::effects(&effects);
        all.iter().all(|job| done.contains_key(job))
    })
    .await;
    assert_eq!(worker::effects(&effects).len(), run.total, "jobs that nobody published");
    let connector = connect(&run.url).await;
    let dead = connector.pubsub().dead_letters(worker::DURABLE).count().await.unwrap();
    assert_eq!(dead, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_server_and_workers_are_killed() {
    let mut server = Server::builder().jetstream().start().await;
    let folder = TempDir::new().unwrap();
    let (workers, effects) = workers(&folder);
    let mut run = Run::start(server.url(), 1, size(4_000, 100_000), workers).await;
    run.kill_server(&mut server, size(2, 5)).await;
    end(run, effects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_cluster_loses_its_leader() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let folder = TempDir::new().unwrap();
    let (workers, effects) = workers(&folder);
    let mut run = Run::start(cluster.url(), 3, size(2_000, 100_000), workers).await;
    run.kill_leaders(&mut cluster, size(1, 5)).await;
    end(run, effects).await;
}
