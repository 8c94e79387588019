//! The connection: its state, what it dropped, its end, and a recorder that comes late.

use nats_connector::Connector;
use nats_connector::connector::State;
use nats_connector::kv::NearCacheConfig;
use testkit::{Server, eventually};

use super::{PATIENCE, Recorded, connect, connectors};

#[tokio::test]
async fn the_state_follows_the_connection() {
    let recorded = Recorded::begin();
    let mut server = Server::builder().jetstream().start().await;
    let connector = connect(&server.url(), "NATS").await;
    assert_eq!(recorded.moved("nats", "NATS"), ["connections{state=connected} 1"]);

    server.kill().await;
    eventually(PATIENCE, || async { connector.state() == State::Disconnected }).await;
    let lost = ["connections{state=connected} -1", "connections{state=disconnected} 1"];
    assert_eq!(recorded.moved("nats", "NATS"), lost);

    server.restart().await;
    eventually(PATIENCE, || async { connector.health().await.is_ready() }).await;
    let health = connector.health().await;
    let moved = recorded.moved("nats", "NATS");
    let back = ["connections{state=connected} 1", "connections{state=disconnected} -1"];
    assert_eq!(moved[..2], back, "{moved:?}");
    assert_eq!(moved[2], format!("reconnects_total{{}} {}", health.reconnects));
    assert!(moved[3].starts_with("round_trip_seconds{} 0."), "{moved:?}");
    assert_eq!(moved.len(), 4, "{moved:?}");

    connector.drain().await;
    let drained = [
        "connections{state=closed} 1",
        "connections{state=connected} -1",
        "drain_duration_seconds{} 1",
    ];
    assert_eq!(recorded.moved("nats", "NATS"), drained);
    // What is gone is in no state.
    drop(connector);
    let gone = || async { recorded.moved("nats", "NATS") == ["connections{state=closed} -1"] };
    eventually(PATIENCE, gone).await;
}

#[tokio::test]
async fn a_connector_in_process_has_a_state_and_an_end() {
    let recorded = Recorded::begin();
    let connector = Connector::memory();
    assert_eq!(recorded.moved("memory", "NATS"), ["connections{state=connected} 1"]);
    connector.drain().await;
    let drained = [
        "connections{state=closed} 1",
        "connections{state=connected} -1",
        "drain_duration_seconds{} 1",
    ];
    assert_eq!(recorded.moved("memory", "NATS"), drained);
    drop(connector);
    assert_eq!(recorded.moved("memory", "NATS"), ["connections{state=closed} -1"]);
}

#[tokio::test]
async fn what_a_slow_subscription_loses_is_counted() {
    let recorded = Recorded::begin();
    let server = Server::builder().start().await;
    let settings = nats_connector::Settings::builder().set("NATS.SUBSCRIPTION_CAPACITY", "2");
    let nats = settings.clone().set("NATS.SERVER", server.url()).build().unwrap();
    let memory = settings.set("NATS.SERVER", "memory:").build().unwrap();
    for (driver, settings) in [("memory", memory), ("nats", nats)] {
        let connector = Connector::connect(&settings).await.unwrap();
        let pubsub = connector.pubsub();
        let _nobody_reads = pubsub.messages("flood").await.unwrap();
        recorded.skip();
        for _ in 0..5 {
            pubsub.publish("flood", &()).await.unwrap();
        }
        let dropped = || async { connector.health().await.dropped_messages == 3 };
        eventually(PATIENCE, dropped).await;
        let moved = recorded.moved(driver, "NATS");
        assert_eq!(moved[0], "messages_dropped_total{} 3", "{driver} {moved:?}");
    }
}

#[tokio::test]
async fn handlers_that_a_drain_gives_up_are_counted() {
    let recorded = Recorded::begin();
    let settings = nats_connector::Settings::builder().set("NATS.SERVER", "memory:");
    let settings = settings.set("NATS.DRAIN_TIMEOUT", "50ms").build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let stuck = connector.pubsub().subscribe("stuck", |_| std::future::pending::<()>());
    let stuck = stuck.await.unwrap();
    connector.pubsub().publish("stuck", &()).await.unwrap();
    eventually(PATIENCE, || async { stuck.stats().received == 1 }).await;
    recorded.skip();
    assert_eq!(connector.drain().await.handlers_abandoned, 1);
    let moved = recorded.moved("memory", "NATS");
    assert!(moved.contains(&"drain_abandoned_total{} 1".to_owned()), "{moved:?}");
    // Its task is gone, at the latest when the runtime has had a turn.
    if !moved.contains(&"messages_in_flight{topic=stuck} -1".to_owned()) {
        tokio::task::yield_now().await;
        let moved = recorded.moved("memory", "NATS");
        assert!(moved.contains(&"messages_in_flight{topic=stuck} -1".to_owned()), "{moved:?}");
    }
}

#[tokio::test]
async fn a_recorder_that_comes_late_finds_everything() {
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let (go_on, may) = tokio::sync::watch::channel(false);
        let handler = move |_| {
            let mut may = may.clone();
            async move {
                may.wait_for(|may| *may).await.unwrap();
            }
        };
        let jobs = connector.pubsub().subscribe("jobs", handler).await.unwrap();
        let near = connector.kv().near_cache(NearCacheConfig::new()).await.unwrap();
        let stats = || near.near_cache_stats().unwrap();
        eventually(PATIENCE, || async { stats().current }).await;
        near.set("early", &1).await.unwrap();
        connector.pubsub().publish("jobs", &()).await.unwrap();
        eventually(PATIENCE, || async { jobs.stats().received == 1 }).await;

        let recorded = Recorded::begin();
        go_on.send(true).unwrap();
        connector.pubsub().publish("jobs", &()).await.unwrap();
        eventually(PATIENCE, || async { jobs.stats().handled == 2 }).await;
        near.set("late", &1).await.unwrap();
        eventually(PATIENCE, || async { stats().updates == 2 }).await;
        connector.health().await;
        // The handler that began before is in flight neither now nor below zero.
        let bytes = stats().bytes;
        let mut expected = vec![
            "connections{state=connected} 1".to_owned(),
            "handler_duration_seconds{topic=jobs} 1".to_owned(),
            "kv_operation_duration_seconds{bucket=default,operation=put} 1".to_owned(),
            "kv_operations_total{bucket=default,operation=put} 1".to_owned(),
            "messages_handled_total{topic=jobs} 2".to_owned(),
            "messages_published_total{delivery=core} 1".to_owned(),
            "messages_received_total{topic=jobs} 1".to_owned(),
            format!("near_cache_bytes{{bucket=default}} {bytes}"),
            "near_cache_entries{bucket=default} 2".to_owned(),
            "near_cache_updates_total{bucket=default} 1".to_owned(),
        ];
        let mut moved = recorded.moved(driver, "NATS");
        moved.retain(|it| !it.starts_with("round_trip"));
        expected.sort();
        assert_eq!(moved, expected, "{driver}");
    }
}
