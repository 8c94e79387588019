//! Many messages while servers and workers are killed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nats_connector::Connector;
use nats_connector::streams::StreamConfig;
use tempfile::TempDir;
use testkit::{Cluster, Program, Server, eventually, size};
use tokio::task::JoinSet;

use super::worker::{self, Poison};
use super::{LIMIT, connect};

/// How many are published at once.
const PUBLISHERS: usize = 64;

/// One run: publishers, a worker process, and what it has done.
struct Run {
    url: String,
    total: usize,
    acked: Arc<AtomicUsize>,
    folder: TempDir,
    worker: Program,
    publishers: JoinSet<()>,
}

impl Run {
    async fn start(url: String, replicas: usize, total: usize) -> Run {
        let connector = connect(&url).await;
        let config = StreamConfig::new("JOBS", ["jobs.>"]).replicas(replicas);
        connector.pubsub().stream(config).timeout(LIMIT).await.unwrap();
        let folder = TempDir::new().unwrap();
        let worker = worker::start(&url, &folder.path().join("effects"), Poison::Fails);
        let acked = Arc::new(AtomicUsize::new(0));
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let jobs = (publisher..total).step_by(PUBLISHERS);
            publishers.spawn(publish(connector.clone(), jobs, acked.clone()));
        }
        Run { url, total, acked, folder, worker, publishers }
    }

    fn effects(&self) -> PathBuf {
        self.folder.path().join("effects")
    }

    /// Waits until this share of the messages is published.
    async fn published(&self, share: f64) {
        let enough = (self.total as f64 * share) as usize;
        eventually(LIMIT, || async { self.acked.load(Ordering::Relaxed) >= enough }).await;
    }

    /// Kills the worker without a word and starts another.
    fn replace_worker(&mut self) {
        self.worker.signal("KILL");
        assert!(!self.worker.wait(LIMIT).success());
        self.worker = worker::start(&self.url, &self.effects(), Poison::Fails);
    }

    /// Waits for the publishers, and until each message is handled.
    async fn end(mut self) {
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
        let all: HashSet<String> = (0..self.total).map(job).collect();
        eventually(LIMIT, || async {
            let done = worker::effects(&self.effects());
            all.iter().all(|job| done.contains_key(job))
        })
        .await;
        let done = worker::effects(&self.effects());
        assert_eq!(done.len(), self.total, "jobs that nobody published");
        let connector = connect(&self.url).await;
        let dead = connector.pubsub().dead_letters(worker::DURABLE).count().await.unwrap();
        assert_eq!(dead, 0);
    }
}

fn job(number: usize) -> String {
    format!("job-{number}")
}

/// Publishes until each job is acknowledged.
async fn publish(connector: Connector, jobs: impl Iterator<Item = usize>, acked: Arc<AtomicUsize>) {
    let pubsub = connector.pubsub();
    for number in jobs {
        let job = job(number);
        loop {
            let publish = pubsub.publish(format!("jobs.{number}"), &job).jetstream();
            match publish.message_id(&job).await {
                Ok(_) => break,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acked.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_server_and_workers_are_killed() {
    let mut server = Server::builder().jetstream().start().await;
    let kills = size(2, 5);
    let mut run = Run::start(server.url(), 1, size(4_000, 100_000)).await;
    for kill in 0..kills {
        run.published((kill as f64 + 0.5) / kills as f64).await;
        server.restart().await;
        // The first and the last one.
        if kill == 0 || kill + 1 == kills {
            run.replace_worker();
        }
    }
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_cluster_loses_its_leader() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let kills = size(1, 5);
    let mut run = Run::start(cluster.url(), 3, size(2_000, 100_000)).await;
    for kill in 0..kills {
        run.published((kill as f64 + 0.5) / kills as f64).await;
        let leader = leader(&run.url).await;
        cluster.node_named(&leader).restart().await;
        cluster.ready().await;
        if kill == 0 || kill + 1 == kills {
            run.replace_worker();
        }
    }
    run.end().await;
}

/// The server that leads the stream.
async fn leader(url: &str) -> String {
    let connector = connect(url).await;
    let jetstream = connector.jetstream().unwrap();
    let stream = jetstream.get_stream("JOBS").await.unwrap();
    stream.cached_info().cluster.clone().unwrap().leader.unwrap()
}
