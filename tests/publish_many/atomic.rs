//! All messages together, or none.

use async_nats::jetstream::stream::Config;
use nats_connector::ErrorKind;
use nats_connector::pubsub::{Outgoing, Way};
use testkit::{Cluster, Permissions, Server, Version};
use tokio::sync::mpsc;

use crate::{batched, connect, connect_to, jetstream, make, numbers, plain, stored};

#[tokio::test(flavor = "multi_thread")]
async fn all_are_stored_together() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let made = make(&connector, batched("all")).await;
    let pubsub = connector.pubsub();
    pubsub.publish("all.a", &0).jetstream().await.unwrap();
    let (tell, mut told) = mpsc::unbounded_channel();
    let report = pubsub
        .publish_many(numbers(&pubsub, "all.a", 1..1_001))
        .all_or_nothing()
        .each(move |index, result| tell.send((index, result.unwrap().sequence)).unwrap())
        .await
        .unwrap();
    assert_eq!((report.stored, report.way), (1_000, Way::Atomic));
    assert!(stored(&made).await.into_iter().eq(0..1_001));
    for index in 0..1_000 {
        assert_eq!(told.recv().await.unwrap(), (index, Some(index + 2)));
    }
    // One, and none.
    let one = pubsub.publish_many([pubsub.publish("all.a", &1_001)]).all_or_nothing();
    assert_eq!(one.await.unwrap().stored, 1);
    let none = pubsub.publish_many(Vec::<Outgoing>::new()).all_or_nothing();
    assert_eq!(none.await.unwrap().stored, 0);
    assert!(stored(&made).await.into_iter().eq(0..1_002));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_wrong_keeps_all_out() {
    let may = Permissions::default().deny_publish(&["all.secret"]);
    let server =
        Server::builder().jetstream().max_payload(10_000).user_with("u", "p", &may).start().await;
    let login = [("NATS.USERNAME", "u"), ("NATS.PASSWORD", "p")];
    let connector = connect_to(&server.url(), &login).await;
    let made = make(&connector, batched("all")).await;
    make(&connector, batched("other")).await;
    make(&connector, plain("single")).await;
    let pubsub = connector.pubsub();
    let good = || Outgoing::from(pubsub.publish("all.a", &0));
    let acked = || pubsub.publish("all.a", &0).jetstream();
    acked().message_id("known").await.unwrap();
    let cases: Vec<(&str, Outgoing, ErrorKind, Option<&str>)> = vec![
        ("topic", pubsub.publish("a b", &0).into(), ErrorKind::InvalidInput, Some("1")),
        ("size", pubsub.publish("all.a", &vec![0; 9_999]).into(), ErrorKind::TooLarge, Some("1")),
        ("stream", pubsub.publish("other.a", &0).into(), ErrorKind::InvalidInput, Some("1")),
        ("denied", pubsub.publish("all.secret", &0).into(), ErrorKind::Unauthorized, Some("1")),
        ("expected", acked().expect_last_subject_sequence(9).into(), ErrorKind::Conflict, None),
        ("id", acked().message_id("known").into(), ErrorKind::AlreadyExists, None),
    ];
    for (what, bad, kind, index) in cases {
        let error = pubsub.publish_many([good(), bad, good()]).all_or_nothing().await.unwrap_err();
        assert_eq!((error.kind(), error.context("index")), (kind, index), "{what}: {error}");
        assert_eq!(stored(&made).await.len(), 1, "{what}");
    }
    // As large as it can be without what makes it a batch.
    let large = pubsub.publish_bytes("all.a", vec![b'1'; 10_000]);
    let error = pubsub.publish_many([good(), large.into()]).all_or_nothing().await.unwrap_err();
    assert_eq!((error.kind(), error.context("index")), (ErrorKind::TooLarge, Some("1")), "{error}");

    let many = pubsub.publish_many(numbers(&pubsub, "all.a", 0..1_001)).all_or_nothing();
    let error = many.await.unwrap_err();
    assert!(error.to_string().contains("1,000"), "{error}");
    let error = pubsub.publish_many([pubsub.publish("single.a", &0)]).all_or_nothing().await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    let error = pubsub.publish_many([pubsub.publish("nowhere", &0)]).all_or_nothing().await;
    assert!(error.unwrap_err().is_no_responders());
    assert_eq!(stored(&made).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_refused_and_stores_nothing() {
    for version in [Version::V2_10, Version::V2_11] {
        if !testkit::require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let made = make(&connector, plain("old")).await;
        let pubsub = connector.pubsub();
        let call = pubsub.publish_many(numbers(&pubsub, "old.a", 0..3)).all_or_nothing();
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{version}: {error}");
        assert!(error.to_string().contains("2.12"), "{error}");
        assert!(stored(&made).await.is_empty());
    }
    if testkit::require(Version::V2_12) {
        let server = Server::builder().version(Version::V2_12).jetstream().start().await;
        let connector = connect(&server).await;
        let atomic = Config { allow_atomic_publish: true, ..plain("first") };
        let made = make(&connector, atomic).await;
        let pubsub = connector.pubsub();
        let call = pubsub.publish_many(numbers(&pubsub, "first.a", 0..3)).all_or_nothing();
        assert_eq!(call.await.unwrap().stored, 3);
        assert!(stored(&made).await.into_iter().eq(0..3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_outlive_the_leader_and_are_never_cut() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let waits = [("NATS.WHEN_DISCONNECTED", "wait"), ("NATS.REQUEST_TIMEOUT", "8s")];
    let connector = connect_to(&cluster.url(), &waits).await;
    let mut config = batched("all");
    config.num_replicas = 3;
    let made = make(&connector, config).await;
    let pubsub = connector.pubsub();
    let mut doubtful = 0;
    for round in 0..12_u64 {
        let items = numbers(&pubsub, "all.a", round * 100..round * 100 + 100);
        let run = tokio::spawn(pubsub.publish_many(items).all_or_nothing());
        if round == 4 {
            let leader = made.get_info().await.unwrap().cluster.unwrap().leader.unwrap();
            cluster.node_named(&leader).kill().await;
        }
        match run.await.unwrap() {
            Ok(report) => assert_eq!(report.stored, 100),
            // Its commit may have been answered by the server that is gone.
            Err(error) => {
                assert!(error.is_timeout() || error.kind() == ErrorKind::Unavailable, "{error}");
                doubtful += 1;
            }
        }
    }
    assert!(doubtful <= 1, "{doubtful} batches got no answer");
    let found = stored(&made).await;
    assert!(found.len() >= 1_100, "{} are stored", found.len());
    for batch in found.chunks(100) {
        assert!(batch[0] % 100 == 0 && batch.iter().copied().eq(batch[0]..batch[0] + 100));
    }
}
