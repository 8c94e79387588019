//! Streams of a cluster that loses its leader.

use std::time::Duration;

use futures::future::join_all;
use nats_connector::streams::StreamConfig;
use testkit::{Cluster, Server, size};

use crate::connect_to;

/// The name of the node that leads the JetStream of the cluster.
async fn leader(cluster: &Cluster) -> String {
    let jsz = cluster.nodes()[0].monitor("/jsz").await;
    jsz["meta_cluster"]["leader"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_made_changed_and_deleted_while_the_leader_dies() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let url = cluster.url();
    let connectors = join_all((0..3).map(|_| connect_to(&url))).await;
    let warm = StreamConfig::new("WARM", ["warm"]).replicas(3);
    connectors[0].pubsub().stream(warm).await.unwrap();

    for round in 0..size(1, 5) {
        let name = format!("S{round}");
        let config = || StreamConfig::new(&*name, [format!("s{round}.>")]).replicas(3);
        let leader = leader(&cluster).await;
        cluster.node_named(&leader).kill().await;
        // Each on its own, so that they collide.
        let calls = connectors.iter().map(|connector| {
            let call = connector.pubsub().stream(config()).timeout(Duration::from_secs(60));
            tokio::spawn(call)
        });
        let calls: Vec<_> = calls.collect();
        cluster.node_named(&leader).restart().await;
        let made: Vec<_> =
            join_all(calls).await.into_iter().map(|done| done.unwrap().unwrap()).collect();
        assert_eq!(made.iter().filter(|stream| stream.created).count(), 1, "round {round}");
        for stream in &made {
            assert_eq!(config().differences(&stream.status.config), [], "round {round}");
        }
        cluster.ready().await;
        let streams = connectors[0].streams();
        let changed = streams.update(config().max_messages(5)).timeout(Duration::from_secs(30));
        let changed = changed.await.unwrap().config;
        assert_eq!(config().max_messages(5).differences(&changed), [], "round {round}");
        assert!(streams.delete(&*name).timeout(Duration::from_secs(30)).await.unwrap());
    }
}
