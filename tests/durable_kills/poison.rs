//! Messages that no handler can handle.

use futures::TryStreamExt;
use nats_connector::Connector;
use nats_connector::pubsub::DeadLetter;
use nats_connector::streams::{Retention, StreamConfig};
use tempfile::TempDir;
use testkit::{Server, eventually};

use super::worker::{self, DELIVERIES, DURABLE, Poison};
use super::{LIMIT, connect};

async fn dead_letters(connector: &Connector) -> Vec<DeadLetter> {
    let list = connector.pubsub().dead_letters(DURABLE).list().await.unwrap();
    list.try_collect().await.unwrap()
}

async fn poison_ends_in_the_dead_letters(poison: Poison, retention: Retention) {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server.url()).await;
    let pubsub = connector.pubsub();
    let config = StreamConfig::new("JOBS", ["jobs.>"]).retention(retention);
    pubsub.stream(config).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("effects");
    let mut worker = worker::start(&server.url(), &file, poison);
    for job in ["before", "poison", "after"] {
        pubsub.publish("jobs.1", job).jetstream().await.unwrap();
    }
    if poison == Poison::Kills {
        assert!(!worker.wait(LIMIT).success());
        worker = worker::start(&server.url(), &file, poison);
    }
    eventually(LIMIT, || async { dead_letters(&connector).await.len() == 1 }).await;
    let done = || worker::effects(&file);
    eventually(LIMIT, || async { done().contains_key("after") }).await;
    assert_eq!(done()["poison"], DELIVERIES);

    let [letter] = &dead_letters(&connector).await[..] else { panic!("one dead letter") };
    assert_eq!(letter.decode::<String>().unwrap(), "poison");
    assert_eq!((letter.topic(), letter.stream(), letter.consumer()), ("jobs.1", "JOBS", DURABLE));
    assert_eq!(letter.stream_sequence(), 2);
    match poison {
        Poison::Fails => {
            assert!(letter.cause().contains("it is poison"), "{}", letter.cause());
            assert_eq!(letter.deliveries(), DELIVERIES);
        }
        _ => assert_eq!(letter.deliveries(), DELIVERIES + 1, "{}", letter.cause()),
    }

    // The worker is mended, and what is dead is tried again.
    worker.signal("KILL");
    worker.wait(LIMIT);
    let _mended = worker::start(&server.url(), &file, Poison::Cured);
    let report = pubsub.dead_letters(DURABLE).replay_all().await.unwrap();
    assert_eq!(report.replayed, 1);
    eventually(LIMIT, || async { done()["poison"] == DELIVERIES + 1 }).await;
    assert_eq!(dead_letters(&connector).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_always_fails() {
    poison_ends_in_the_dead_letters(Poison::Fails, Retention::Limits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_its_worker_at_the_last_delivery() {
    poison_ends_in_the_dead_letters(Poison::Kills, Retention::Limits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_always_fails_in_a_work_queue() {
    poison_ends_in_the_dead_letters(Poison::Fails, Retention::WorkQueue).await;
}
