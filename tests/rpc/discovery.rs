//! Finding services.

use std::time::{Duration, Instant};

use futures::StreamExt;
use nats_connector::rpc::ServiceConfig;
use nats_connector::{Connector, ErrorKind};
use testkit::Server;

use crate::{PATIENCE, connect, raw, serve, settled};

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_by_name_and_id() {
    let server = Server::builder().start().await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    let (a, b) = (serve(&one.rpc()).await, serve(&two.rpc()).await);
    let other = one.rpc().service(ServiceConfig::new("another")).serve().await.unwrap();
    let discover = two.rpc().discover();
    let gap = Duration::from_secs(2);
    let all = discover.services().quiet(gap).timeout(PATIENCE).await.unwrap();
    let names: Vec<_> = all.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["another", "profiles", "profiles"]);
    assert_eq!(all[0].id, other.id());
    let named = discover.clone().name("profiles");
    let infos = named.infos().quiet(gap).timeout(PATIENCE).await.unwrap();
    let mut expected = [a.info(), b.info()];
    expected.sort_by(|x, y| x.id.cmp(&y.id));
    assert_eq!(infos, expected);
    // An id has one answer, which nothing more is waited for.
    let begun = Instant::now();
    let stats = named.id(a.id()).stats().quiet(PATIENCE * 10).timeout(PATIENCE * 10).await;
    assert_eq!(stats.unwrap()[0].id, a.id());
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_known_at_once_and_nonsense_is_refused() {
    let server = Server::builder().start().await;
    let rpc = connect(&server).await.rpc();
    let begun = Instant::now();
    let found = rpc.discover().name("nobody").services().timeout(PATIENCE * 10).await.unwrap();
    assert!(found.is_empty() && begun.elapsed() < PATIENCE);
    for wrong in [rpc.discover().id("x"), rpc.discover().name("a.*"), rpc.discover().name("")] {
        assert_eq!(wrong.services().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let rpc = Connector::memory().rpc();
    let found = rpc.discover().services().timeout(Duration::from_millis(10)).await.unwrap();
    assert!(found.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_others_are_read_leniently() {
    let server = Server::builder().start().await;
    let rpc = connect(&server).await.rpc();
    let peer = raw(&server).await;
    let mut asked = peer.subscribe("$SRV.>").await.unwrap();
    settled(&peer).await;
    let answers = tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            for answer in [
                "not json",
                r#"{"name":"go","id":"1","version":"1.0.0","metadata":null,"started":null,
                    "endpoints":[{"name":"a","subject":"x.a","queue_group":null,"metadata":null,
                    "average_processing_time":1.5,"num_requests":3,"extra":{}}],"more":1}"#,
                r#"{"name":"old","id":"2","version":"1.0.0","endpoints":null}"#,
                r#"{"name":"sparse"}"#,
            ] {
                let reply = request.reply.clone().unwrap();
                peer.publish(reply, answer.into()).await.unwrap();
            }
        }
    });
    let infos = rpc.discover().infos().timeout(PATIENCE).await.unwrap();
    let names: Vec<_> = infos.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["go", "old", "sparse"]);
    assert_eq!(infos[0].endpoints[0].subject, "x.a");
    let stats = rpc.discover().stats().timeout(PATIENCE).await.unwrap();
    assert_eq!((stats[0].endpoints[0].num_requests, stats[0].started), (3, None));
    assert_eq!(rpc.discover().services().timeout(PATIENCE).await.unwrap().len(), 3);
    answers.abort();
}
