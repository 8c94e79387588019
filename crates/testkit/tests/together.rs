//! Servers that work together: a cluster, a hub and its leaf.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use testkit::{Cluster, Server, Version};

#[tokio::test]
async fn a_cluster_holds_three_replicas_and_survives_its_leader() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let urls = cluster.url();
    let urls: Vec<&str> = urls.split(',').collect();
    assert_eq!(urls.len(), 3);
    let context = jetstream::new(async_nats::connect(urls).await.unwrap());
    let config = stream::Config {
        name: "EVENTS".into(),
        subjects: vec!["events.>".into()],
        num_replicas: 3,
        ..Default::default()
    };
    let mut stream = context.create_stream(config).await.unwrap();
    context.publish("events.one", "1".into()).await.unwrap().await.unwrap();

    let leader = stream.info().await.unwrap().cluster.clone().unwrap().leader.unwrap();
    cluster.node_named(&leader).kill().await;
    testkit::eventually(Duration::from_secs(60), || async {
        context.publish("events.two", "2".into()).await.unwrap().await.is_ok()
    })
    .await;
    cluster.node_named(&leader).restart().await;
    cluster.ready().await;
}

#[tokio::test]
async fn a_leaf_has_a_domain_of_its_own() {
    for version in [Version::V2_15, Version::V2_10] {
        if !testkit::require(version) {
            continue;
        }
        let build = || Server::builder().version(version);
        let mut hub = build().jetstream_domain("hub").leaf_nodes().start().await;
        let leaf = build().jetstream_domain("leaf").leaf_of(&hub).start().await;
        let client = async_nats::connect(hub.url()).await.unwrap();
        for (domain, streams) in [("hub", 0), ("leaf", 1)] {
            let context = jetstream::with_domain(client.clone(), domain);
            if streams == 1 {
                let config = stream::Config { name: "LOCAL".into(), ..Default::default() };
                context.create_stream(config).await.unwrap();
            }
            assert_eq!(context.query_account().await.unwrap().streams, streams);
        }
        assert_eq!(leaf.monitor("/jsz").await["streams"], 1);
        assert_eq!(hub.monitor("/jsz").await["streams"], 0);

        hub.restart().await;
        let back = || async { hub.monitor("/leafz").await["leafnodes"] == 1 };
        testkit::eventually(Duration::from_secs(60), back).await;
    }
}
