//! Outages, and a replay that dies halfway.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::TryStreamExt;
use testkit::{Proxy, eventually, size};

use crate::{PATIENCE, all, connect, dead_orders, jetstream, stored};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_never_an_empty_list() {
    let mut server = jetstream().await;
    let pubsub = connect(&server).await.pubsub();
    let dead = dead_orders(&pubsub, 3).await;
    let mut list = dead.list().timeout(Duration::from_secs(1)).await.unwrap();
    assert!(list.try_next().await.unwrap().is_some());
    let sequence = all(&dead).await[0].sequence();
    server.kill().await;

    let limit = Duration::from_secs(1);
    let error = list.try_next().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(list.try_next().await.unwrap().is_none());
    for error in [
        dead.list().timeout(limit).await.unwrap_err(),
        dead.count().timeout(limit).await.unwrap_err(),
        dead.get(sequence).timeout(limit).await.unwrap_err(),
        dead.replay(sequence).timeout(limit).await.unwrap_err(),
        dead.replay_all().timeout(limit).await.unwrap_err(),
        dead.discard(sequence).timeout(limit).await.unwrap_err(),
        dead.discard_all().timeout(limit).await.unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error}");
    }
    server.restart().await;
    let back = || async { dead.count().await.is_ok_and(|count| count == 3) };
    eventually(PATIENCE, back).await;
}

/// As a process does that dies between publishing and taking out: another one has published the
/// message, and the dead letter is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_died_halfway_is_finished_by_the_next() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    let dead = dead_orders(&pubsub, 2).await;
    let letter = all(&dead).await.remove(0);
    // The dead letter as it is stored, to be put back.
    let kept = stored(&pubsub, "DEAD_LETTERS", "dead.billing").await.remove(0);
    assert!(dead.replay(letter.sequence()).await.unwrap().is_some());
    let again = stored(&pubsub, "ORDERS", "orders.1").await.remove(1);
    let id = again.message.headers.unwrap().get("Nats-Msg-Id").unwrap().to_string();
    assert!(id.contains("DEAD_LETTERS") && id.contains("orders.1"), "{id}");

    // A dead letter that was put back is another one, with another id: it is stored again.
    let mut headers: HeaderMap = kept.message.headers.unwrap();
    headers.insert("Nats-Msg-Id", "put back");
    let put_back = pubsub.publish_bytes("dead.billing", kept.message.payload).headers(&headers);
    put_back.jetstream().await.unwrap();
    assert_eq!(dead.replay_all().await.unwrap().replayed, 2);
    assert_eq!(stored(&pubsub, "ORDERS", "orders.1").await.len(), 3);
    assert_eq!(dead.count().await.unwrap(), 0);
}

/// The connection is cut again and again while all are replayed; each arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn cut_replays_store_each_once() {
    let server = jetstream().await;
    let count = size(25, 500);
    let dead = dead_orders(&connect(&server).await.pubsub(), count).await;
    let proxy = Proxy::start(server.address());
    let settings = nats_connector::Settings::builder()
        .set("NATS.SERVER", format!("nats://{}", proxy.address()))
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "10ms")
        .build()
        .unwrap();
    let far = nats_connector::Connector::connect(&settings).await.unwrap();
    let replaying = far.pubsub().dead_letters("billing");
    proxy.set_delay(Duration::from_millis(5));

    let mut cuts = 0;
    let cutting = async {
        // Not for ever: a busy machine may need longer than that for a connection.
        while cuts < size(10, 200) {
            tokio::time::sleep(Duration::from_millis(150)).await;
            proxy.cut();
            cuts += 1;
        }
        std::future::pending::<()>().await;
    };
    let replay = async {
        loop {
            match replaying.replay_all().await {
                Ok(report) if report.failed.is_empty() => break,
                Ok(report) => panic!("{report:?}"),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    tokio::select! {
        () = replay => {}
        () = cutting => {}
    }
    assert!(cuts >= 3, "{cuts} cuts");
    assert_eq!(dead.count().await.unwrap(), 0);
    let pubsub = connect(&server).await.pubsub();
    for n in 1..=count {
        assert_eq!(stored(&pubsub, "ORDERS", &format!("orders.{n}")).await.len(), 2, "order {n}");
    }
}
