//! What is delivered, and what settling does.

use std::time::{Duration, SystemTime};

use nats_connector::pubsub::driver::Settlement;
use testkit::Server;

use super::{Bench, config, next, number, quiet};

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_order_with_their_place() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let begun = SystemTime::now();
    bench.publish(0..1000).await;
    let mut member = bench.join(&config()).await;
    for n in 0..1000 {
        let delivery = next(&mut *member).await;
        assert_eq!((number(&delivery), delivery.sequence, delivery.deliveries), (n, n + 1, 1));
        assert_eq!(delivery.pending, 999 - n);
        assert_eq!(&*delivery.message.subject, "orders.new");
        assert!(delivery.message.reply.is_none());
        let age = delivery.stored.duration_since(begun).unwrap_or_default();
        assert!(age < Duration::from_secs(60));
        bench.settle(&delivery, Settlement::Done).await;
    }
    quiet(&mut *member, Duration::from_millis(300)).await;
    bench.publish(1000..1010).await;
    assert_eq!(bench.work(&mut *member, 10).await, (1000..1010).collect::<Vec<_>>());
    assert_eq!(member.events().restarts, 0);
}
