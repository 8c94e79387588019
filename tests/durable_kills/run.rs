//! Publishers and a worker process, while servers and workers are killed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_connector::Connector;
use nats_connector::streams::StreamConfig;
use testkit::{Cluster, Program, Server, eventually};
use tokio::task::JoinSet;

use super::{LIMIT, connect};

/// How many are published at once.
const PUBLISHERS: usize = 64;

/// One run.
pub(crate) struct Run {
    pub(crate) url: String,
    pub(crate) total: usize,
    acked: Arc<AtomicUsize>,
    start_worker: Box<dyn Fn(&str) -> Program>,
    worker: Program,
    publishers: JoinSet<()>,
}

impl Run {
    /// Begins to publish `total` jobs; `start_worker` is given the server's address.
    pub(crate) async fn start(
        url: String,
        replicas: usize,
        total: usize,
        start_worker: impl Fn(&str) -> Program + 'static,
    ) -> Run {
        let connector = connect(&url).await;
        let config = StreamConfig::new("JOBS", ["jobs.>"]).replicas(replicas);
        connector.pubsub().stream(config).timeout(LIMIT).await.unwrap();
        let worker = start_worker(&url);
        let acked = Arc::new(AtomicUsize::new(0));
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let jobs = (publisher..total).step_by(PUBLISHERS);
            publishers.spawn(publish(connector.clone(), jobs, acked.clone()));
        }
        let start_worker = Box::new(start_worker);
        Run { url, total, acked, start_worker, worker, publishers }
    }

    /// Kills the server this often while the jobs are published.
    pub(crate) async fn kill_server(&mut self, server: &mut Server, kills: usize) {
        for kill in 0..kills {
            self.published((kill as f64 + 0.5) / kills as f64).await;
            server.restart().await;
            self.killed(kill, kills);
        }
    }

    /// Kills the server that leads the stream this often while the jobs are published.
    pub(crate) async fn kill_leaders(&mut self, cluster: &mut Cluster, kills: usize) {
        for kill in 0..kills {
            self.published((kill as f64 + 0.5) / kills as f64).await;
            let leader = leader(&self.url).await;
            cluster.node_named(&leader).restart().await;
            cluster.ready().await;
            self.killed(kill, kills);
        }
    }

    /// After the first and the last kill of a server the worker follows.
    fn killed(&mut self, kill: usize, kills: usize) {
        if kill == 0 || kill + 1 == kills {
            self.replace_worker();
        }
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
        self.worker = (self.start_worker)(&self.url);
    }

    /// Waits for the publishers.
    pub(crate) async fn all_published(&mut self) {
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
    }
}

pub(crate) fn job(number: usize) -> String {
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

/// The server that leads the stream.
async fn leader(url: &str) -> String {
    let connector = connect(url).await;
    let jetstream = connector.jetstream().unwrap();
    let leader = Mutex::new(None);
    // Servers that are short of time elect anew.
    eventually(LIMIT, || async {
        if let Ok(stream) = jetstream.get_stream("JOBS").await {
            *leader.lock().unwrap() = stream.cached_info().cluster.clone().unwrap().leader;
        }
        leader.lock().unwrap().is_some()
    })
    .await;
    leader.into_inner().unwrap().unwrap()
}
