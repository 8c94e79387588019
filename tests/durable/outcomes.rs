//! What becomes of a message by what its handler gives.

use std::time::{Duration, SystemTime};

use nats_connector::Backoff;
use nats_connector::pubsub::{Message, Outcome};
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn what_the_handler_gives_decides() {
    let bench = Bench::start().await;
    bench.publish("orders.new", ["ok", "retry", "later", "error", "panic", "reject"]).await;
    let seen = Seen::new();
    let log = seen.clone();
    let subscription = bench
        .pubsub
        .subscribe("orders.*", move |msg: Message| {
            let log = log.clone();
            async move {
                let what: String = msg.decode()?;
                let first = msg.delivery().unwrap().deliveries() == 1;
                log.push(what.clone());
                match what.as_str() {
                    "retry" if first => Ok(Outcome::retry()),
                    "later" if first => Ok(Outcome::retry_after(Duration::from_millis(10))),
                    "error" if first => Err(failed("no database")),
                    "panic" if first => panic!("a bug"),
                    "reject" => Ok(Outcome::reject("not an order")),
                    _ => Ok(Outcome::Ack),
                }
            }
        })
        .durable("billing")
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        .await
        .unwrap();
    seen.reach(10).await;
    bench.settled("billing").await;
    let counts = seen.counts();
    for (what, times) in
        [("ok", 1), ("retry", 2), ("later", 2), ("error", 2), ("panic", 2), ("reject", 1)]
    {
        assert_eq!(counts[what], times, "{what}");
    }
    let stats = subscription.stats();
    assert_eq!((stats.received, stats.handled, stats.failed, stats.panicked), (10, 5, 4, 1));
    assert_eq!((stats.redelivered, stats.retried, stats.rejected, stats.dead), (4, 4, 1, 1));
    assert_eq!((stats.not_stored, stats.let_go, stats.unsettled, stats.remade), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_message_knows_where_it_comes_from() {
    let bench = Bench::start().await;
    bench.publish("orders.new", [1, 2, 3]).await;
    let before = SystemTime::now();
    let (sender, mut messages) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |msg: Message| {
        let sender = sender.clone();
        async move { drop(sender.send(msg)) }
    };
    let subscription = bench.pubsub.subscribe("orders.*", handler).durable("billing");
    let subscription = subscription.max_in_flight(1).await.unwrap();
    for sequence in 1..=3 {
        let message = messages.recv().await.unwrap();
        assert_eq!(message.decode::<u64>().unwrap(), sequence);
        assert_eq!((message.topic(), message.reply()), ("orders.new", None));
        let delivery = message.delivery().unwrap();
        assert_eq!((delivery.stream(), delivery.consumer()), (STREAM, "billing"));
        assert_eq!((delivery.sequence(), delivery.deliveries()), (sequence, 1));
        assert_eq!(delivery.pending(), 3 - sequence);
        let age = before.duration_since(delivery.stored()).unwrap_or_default();
        assert!(age < PATIENCE, "{age:?}");
        let refused = message.respond(&1).await.unwrap_err();
        assert_eq!(refused.kind(), nats_connector::ErrorKind::InvalidInput);
    }
    assert_eq!(subscription.topic(), "orders.*");
    assert_eq!(subscription.differences(), []);
}

/// The times between the deliveries of a message that fails.
async fn gaps(
    bench: &Bench,
    name: &str,
    count: usize,
    with: impl FnOnce(Call) -> Call,
    outcome: impl Fn(u64) -> Outcome + Clone + Send + Sync + 'static,
) -> Vec<Duration> {
    let seen = Seen::new();
    let log = seen.clone();
    let handler: Handler = Box::new(move |msg: Message| {
        log.push(Instant::now());
        let outcome = outcome(msg.delivery().unwrap().deliveries());
        Box::pin(async move { outcome })
    });
    let call = bench.pubsub.subscribe("orders.*", handler).durable(name).unlimited_deliveries();
    let subscription = with(call).await.unwrap();
    seen.reach(count + 1).await;
    subscription.unsubscribe().await.unwrap();
    seen.all().windows(2).take(count).map(|pair| pair[1] - pair[0]).collect()
}

type Handler =
    Box<dyn Fn(Message) -> futures::future::BoxFuture<'static, Outcome> + Send + Sync + 'static>;
type Call = nats_connector::Call<nats_connector::pubsub::Durable<Handler>>;

#[tokio::test]
async fn a_failed_message_waits_as_it_was_asked_for() {
    let ms = Duration::from_millis;
    let slack = Duration::from_secs(10);
    let near = |gaps: &[Duration], wanted: &[u64]| {
        for (gap, wanted) in gaps.iter().zip(wanted) {
            assert!(*gap >= ms(*wanted) - ms(5) && *gap < ms(*wanted) + slack, "{gaps:?}");
        }
    };
    let bench = Bench::start().await;
    bench.publish("orders.new", [1]).await;
    let (listed, computed, asked) = tokio::join!(
        gaps(
            &bench,
            "listed",
            3,
            |call| call.backoff(Backoff::list([ms(100), ms(400)])),
            |_| { Outcome::retry() }
        ),
        gaps(
            &bench,
            "computed",
            3,
            |call| call.backoff_by(move |n| ms(100) * n as u32),
            |_| { Outcome::retry() }
        ),
        gaps(&bench, "asked", 2, |call| call, move |n| Outcome::retry_after(ms(200) * n as u32)),
    );
    near(&listed, &[100, 400, 400]);
    near(&computed, &[100, 200, 300]);
    near(&asked, &[200, 400]);
    let ordered = gaps(
        &bench,
        "ordered",
        2,
        |call| call.ordered_by_subject().backoff(Backoff::fixed(ms(150))),
        |_| Outcome::retry(),
    );
    near(&ordered.await, &[150, 150]);
}

#[tokio::test]
async fn a_group_shares_and_a_name_goes_on_where_it_was() {
    let bench = Bench::start().await;
    bench.publish("orders.new", 0..500).await;
    let other = connect(&bench.server.url(), &[]).await;
    let seen = Seen::new();
    let counts = [Seen::new(), Seen::new()];
    let mut members = Vec::new();
    for (n, pubsub) in [bench.pubsub.clone(), other.pubsub()].into_iter().enumerate() {
        let (log, mine, others) = (seen.clone(), counts[n].clone(), counts[1 - n].clone());
        let handler = move |msg: Message| {
            let (log, mine, others) = (log.clone(), mine.clone(), others.clone());
            async move {
                let number = msg.decode::<u64>()?;
                log.push(number);
                mine.push(number);
                // One that begins earlier leaves some to the other.
                if mine.len() > 50 {
                    others.reach(51).await;
                }
                Handled::Ok(())
            }
        };
        let call = pubsub.subscribe("orders.*", handler).concurrency(4).durable("billing");
        members.push(call.await.unwrap());
    }
    seen.reach(500).await;
    bench.settled("billing").await;
    assert!(seen.counts().values().all(|times| *times == 1), "each once");
    assert!(members.iter().all(|member| member.stats().handled > 50), "{members:?}");
    for member in &members {
        member.unsubscribe().await.unwrap();
    }
    bench.publish("orders.new", 500..510).await;
    let log = seen.clone();
    let handler = move |msg: Message| {
        log.push(msg.decode::<u64>().unwrap());
        async {}
    };
    bench.pubsub.subscribe("orders.*", handler).durable("billing").await.unwrap();
    seen.reach(510).await;
    bench.settled("billing").await;
    assert_eq!(seen.len(), 510);
    assert_eq!(seen.all()[500..], (500..510).collect::<Vec<_>>());
}
