//! A work queue: jobs in a stream, and any number of workers that share them.
//!
//! - A job is published with an acknowledgement: when `publish` is done, the stream has it.
//! - The stream is a work queue: it keeps a job until a worker has settled it, and no longer.
//! - A worker that is killed settles nothing any more. The server waits for `ack_wait`, then gives its
//!   jobs to the others: every job is done **at least once**, whoever is killed when.
//! - Done once is the application's part, and takes one atomic write: here `create` stores that the
//!   job is done and is its effect at the same time, so a job that comes again finds it done. The
//!   `Dedupe` layer around it saves most of such jobs their handler, and keeps two workers from the
//!   same job at the same time.
//!
//! ```text
//! cargo run --example work_queue                # 200 jobs and one worker
//!
//! cargo run --example work_queue -- produce     # or: the jobs,
//! cargo run --example work_queue -- ada         # and workers in other terminals; kill -9 one
//! cargo run --example work_queue -- bob
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::time::Duration;

use nats_connector::kv::Kv;
use nats_connector::layers::Dedupe;
use nats_connector::pubsub::{Message, PubSub, with};
use nats_connector::streams::{Retention, StreamConfig};
use nats_connector::{Connector, Result};

const JOBS: u32 = 200;
const STREAM: &str = "JOBS";

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let jobs = StreamConfig::new(STREAM, ["jobs.>"]).retention(Retention::WorkQueue);
    connector.pubsub().stream(jobs).await?;
    match std::env::args().nth(1).as_deref() {
        None => {
            produce(&connector.pubsub()).await?;
            work(&connector, "ada").await?;
        }
        Some("produce") => produce(&connector.pubsub()).await?,
        Some(name) => work(&connector, name).await?,
    }
    let drained = connector.drain().await;
    std::process::exit(i32::from(!drained.is_clean()));
}

/// Publishes the jobs. The message id lets the call try again after a timeout, and a second producer
/// adds nothing.
async fn produce(pubsub: &PubSub) -> Result<()> {
    for job in 1..=JOBS {
        pubsub.publish("jobs.resize", &job).jetstream().message_id(format!("job-{job}")).await?;
    }
    println!("{JOBS} jobs are in the queue");
    Ok(())
}

/// Does jobs until the queue is empty.
async fn work(connector: &Connector, name: &str) -> Result<()> {
    let pubsub = connector.pubsub();
    let done = connector.kv().bucket("jobs-done");
    let claims = connector.kv().bucket("jobs-claimed");
    let worker = Worker { name: name.to_owned(), done: done.clone() };
    // Short times, to see the jobs of a killed worker come again; the defaults are 30 s and 15 s.
    pubsub
        .subscribe("jobs.resize", with(worker, resize))
        .layer(Dedupe::new(claims, "resize").lease(Duration::from_secs(1)))
        .durable("resizers")
        .ack_wait(Duration::from_secs(2))
        .concurrency(4)
        .await?;
    println!("{name} is at work");
    while pubsub.streams().status(STREAM).await?.is_some_and(|queue| queue.messages > 0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{name}: the queue is empty, {} jobs are done", done.item_count().await?);
    Ok(())
}

#[derive(Clone)]
struct Worker {
    name: String,
    done: Kv,
}

/// Does one job. An error would have it delivered again after a pause, and after five times make it a
/// dead letter.
async fn resize(worker: Worker, message: Message) -> Result<()> {
    let job: u32 = message.decode()?;
    tokio::time::sleep(Duration::from_millis(20)).await; // the work
    match worker.done.create(format!("job:{job}"), &worker.name).await {
        Ok(_) => println!("{} did job {job}", worker.name),
        Err(error) if error.is_already_exists() => println!("job {job} was done before"),
        Err(error) => return Err(error),
    }
    Ok(())
}
