//! Clusters whose leaders go, servers that ask their clients to go, and domains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::{Cluster, Server, eventually, size};

use super::faults::{publish_on, work_on};
use super::{Bench, LONG, all_of, config, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_its_leader_delivers_everything() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let bench = Bench::connect(&cluster.url(), &[("NATS.RECONNECT_WAIT", "100ms")]).await;
    bench.make_stream(3).await;
    let mut config = config();
    config.ack_wait = Duration::from_secs(3);
    let mut member = bench.join(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_on(&cluster.url(), &stop);
    let mut seen = Vec::new();
    let kills = async {
        for round in 0..size(2, 6) {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let leader = loop {
                let info = bench.consumer().await;
                if let Some(leader) = info["cluster"]["leader"].as_str() {
                    break leader.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            if round % 2 == 0 {
                let down = "CONSUMER.LEADER.STEPDOWN.ORDERS.workers";
                bench.api(down, serde_json::Value::Null).await;
            } else {
                let leader = cluster.node_named(&leader);
                leader.kill().await;
                leader.restart().await;
                cluster.ready().await;
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), last) = tokio::join!(kills, work_on(&bench, &mut *member, published, &mut seen));
    all_of(&seen, 0..last);
    assert_eq!(member.events().consumer_remade, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_to_go_is_left_without_a_loss() {
    let node =
        Server::builder().jetstream().lame_duck(Duration::from_secs(300), Duration::from_secs(120));
    let cluster = Cluster::start(node).await;
    let bench = Bench::connect(&cluster.url(), &[("NATS.RANDOMIZE", "false")]).await;
    bench.make_stream(3).await;
    let mut config = config();
    config.ack_wait = Duration::from_secs(20);
    let mut member = bench.join(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_on(&cluster.nodes()[1].url(), &stop);
    let mut seen = Vec::new();
    let go = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.nodes()[0].lame_duck();
        let connector = &bench.connector;
        eventually(LONG, || async { connector.health().await.reconnects == 1 }).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((), last) = tokio::join!(go, work_on(&bench, &mut *member, published, &mut seen));
    all_of(&seen, 0..last);
    assert!(member.events().restarts >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_reached_through_a_leaf_node() {
    let hub = Server::builder().jetstream_domain("hub").leaf_nodes().start().await;
    let leaf = Server::builder().jetstream_domain("leaf").leaf_of(&hub).start().await;
    let local = Bench::of(&hub).await;
    local.make_stream(1).await;
    local.publish(0..500).await;
    for (name, settings) in [
        ("by-domain", [("NATS.JETSTREAM_DOMAIN", "hub")]),
        ("by-prefix", [("NATS.JETSTREAM_PREFIX", "$JS.hub.API")]),
    ] {
        let far = Bench::connect(&leaf.url(), &settings).await;
        let mut config = config();
        config.name = name.to_owned();
        let mut member = far.join(&config).await;
        let first = next(&mut *member).await;
        assert!(first.receipt.starts_with("$JS.ACK."), "{}", first.receipt);
        far.settle(&first, nats_connector::pubsub::driver::Settlement::Done).await;
        assert_eq!(far.work(&mut *member, 499).await, (1..500).collect::<Vec<_>>());
        let info = format!("CONSUMER.INFO.ORDERS.{name}");
        eventually(LONG, || async {
            local.api(&info, serde_json::Value::Null).await["num_ack_pending"] == 0
        })
        .await;
        assert_eq!(member.events().restarts, 0);
    }
}
