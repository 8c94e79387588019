//! What becomes of schedules while the server is down.

use std::time::{Duration, SystemTime};

use testkit::{Version, eventually, require};

use crate::{connect, create, in_seconds, jetstream, orders, payloads, stored, wait_for};

/// Times that come while the server is down are made up for: once each.
async fn missed_times(version: Version, repeating: bool) {
    let mut server = jetstream(version).await;
    let pubsub = connect(&server).await.pubsub();
    create(&pubsub, &orders()).await;
    // Time enough for a busy machine to kill the server before.
    let due = in_seconds(5.0);
    pubsub.publish("orders.missed", &"missed").at(due).await.unwrap();
    pubsub.publish("orders.ahead", &"ahead").at(due + Duration::from_secs(4)).await.unwrap();
    if repeating {
        let tick = pubsub.publish("orders.tick", &1).every(Duration::from_secs(1));
        tick.name("tick").await.unwrap();
    }
    server.kill().await;
    let passed = || async { SystemTime::now() > due + Duration::from_secs(1) };
    eventually(crate::PATIENCE, passed).await;
    let up = SystemTime::now();
    server.restart().await;
    eventually(crate::PATIENCE, || async { pubsub.flush().await.is_ok() }).await;

    let missed = wait_for(&pubsub, "ORDERS", "orders.missed", 1).await;
    assert!(missed[0].stored >= up, "{missed:?}");
    let ahead = wait_for(&pubsub, "ORDERS", "orders.ahead", 1).await;
    assert!(ahead[0].stored >= due + Duration::from_secs(4), "{ahead:?}");
    assert_eq!(payloads(&stored(&pubsub, "ORDERS", "orders.missed").await), ["\"missed\""]);
    if repeating {
        let ticks = wait_for(&pubsub, "ORDERS", "orders.tick", 3).await;
        let after = ticks.iter().filter(|tick| tick.stored >= up).map(|tick| tick.stored);
        let after: Vec<_> = after.collect();
        assert!(after.len() >= 2, "{ticks:?}");
        // Not as often as it was missed: no two come together.
        for pair in after.windows(2) {
            let apart = pair[1].duration_since(pair[0]).unwrap();
            assert!(apart > Duration::from_millis(100), "{after:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_times_on_2_15() {
    missed_times(Version::V2_15, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_times_on_2_12() {
    if require(Version::V2_12) {
        missed_times(Version::V2_12, false).await;
    }
}
