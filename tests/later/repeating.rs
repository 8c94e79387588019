//! Again and again, by an interval or a calendar.

use std::time::Duration;

use nats_connector::pubsub::PubSub;
use nats_connector::{Connector, ErrorKind};
use testkit::Version;

use crate::{connect, create, header, jetstream, orders, payloads, stored, wait_for};

const SECOND: Duration = Duration::from_secs(1);

async fn intervals(pubsub: &PubSub) {
    create(pubsub, &orders()).await;
    let first = pubsub.publish("orders.tick", &"old").every(3600 * SECOND).name("tick");
    let first = first.await.unwrap();
    // What every start of a service does.
    let tick = pubsub.publish("orders.tick", &"new").every(SECOND).name("tick").await.unwrap();
    assert_eq!(first.subject, tick.subject);
    let came = wait_for(pubsub, "ORDERS", "orders.tick", 3).await;
    assert!(payloads(&came).iter().all(|payload| payload == "\"new\""), "{came:?}");
    assert_eq!(header(&came[0], "Nats-Scheduler"), Some(tick.subject.as_str()));
    let next = header(&came[0], "Nats-Schedule-Next").unwrap();
    assert!(next.starts_with("20") && next.ends_with('Z'), "{next}");
    assert_eq!(stored(pubsub, "ORDERS", &tick.subject).await.len(), 1);

    assert!(tick.cancel().await.unwrap());
    assert!(!pubsub.cancel_schedule("orders.tick", "tick").await.unwrap());
    let count = stored(pubsub, "ORDERS", "orders.tick").await.len();
    // A further schedule that has come twice proves that the time has passed.
    let other = pubsub.publish("orders.other", &1).every(SECOND).await.unwrap();
    wait_for(pubsub, "ORDERS", "orders.other", 2).await;
    assert_eq!(stored(pubsub, "ORDERS", "orders.tick").await.len(), count);
    assert!(other.cancel().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_on_2_15() {
    let server = jetstream(Version::V2_15).await;
    intervals(&connect(&server).await.pubsub()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_in_process() {
    intervals(&Connector::memory().pubsub()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calendars() {
    let server = jetstream(Version::V2_15).await;
    let pubsub = connect(&server).await.pubsub();
    create(&pubsub, &orders()).await;
    let cron = |text: &str| pubsub.publish("orders.report", text).cron(text);

    let often = cron("*/2 * * * * *").await.unwrap();
    let came = wait_for(&pubsub, "ORDERS", "orders.report", 2).await;
    assert_eq!(payloads(&came)[0], "\"*/2 * * * * *\"");
    assert!(often.cancel().await.unwrap());

    let berlin = cron("0 30 9 * * mon-FRI").time_zone("Europe/Berlin").name("daily").await.unwrap();
    let kept = stored(&pubsub, "ORDERS", &berlin.subject).await.remove(0);
    assert_eq!(header(&kept, "Nats-Schedule-Time-Zone"), Some("Europe/Berlin"));
    assert_eq!(header(&kept, "Nats-Schedule-Target"), Some("orders.report"));
    cron("@hourly").time_zone("Asia/Kolkata").await.unwrap();

    // What only the server can tell.
    for text in ["0 0 0 30 2 *", "0 0 0 * * 7", "99 * * * * *", "0 0 0 L * *"] {
        let error = cron(text).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
        assert_eq!(error.context("cron"), Some(text));
    }
    let error = cron("@daily").time_zone("Nowhere/Atlantis").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("Nowhere/Atlantis"), "{error}");
}
