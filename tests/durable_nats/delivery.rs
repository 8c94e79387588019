//! What is delivered, what settling does, and how members share.

use std::future::poll_fn;
use std::time::{Duration, Instant, SystemTime};

use nats_connector::pubsub::driver::{Deliveries, Settlement, Start};
use testkit::{Server, eventually};

use super::{Bench, LONG, STREAM, all_of, config, next, number, quiet, soon};

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
        assert!(age < LONG);
        bench.settle(&delivery, Settlement::Done).await;
    }
    quiet(&mut *member, Duration::from_millis(300)).await;
    bench.publish(1000..1010).await;
    assert_eq!(bench.work(&mut *member, 10).await, (1000..1010).collect::<Vec<_>>());
    assert_eq!(member.events().restarts, 0);
    eventually(LONG, || async { bench.consumer().await["num_ack_pending"] == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_says_what_becomes_of_a_message() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..4).await;
    let mut config = config();
    config.ack_wait = Duration::from_secs(2);
    let mut member = bench.join(&config).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(next(&mut *member).await);
    }
    let begun = Instant::now();
    bench.settle(&first[0], Settlement::Done).await;
    bench.settle(&first[1], Settlement::Again(Duration::from_millis(700))).await;
    bench.settle(&first[2], Settlement::Never("it is no order".to_owned())).await;
    let later = next(&mut *member).await;
    assert_eq!((number(&later), later.deliveries), (1, 2));
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    bench.settle(&later, Settlement::Again(Duration::ZERO)).await;
    let later = next(&mut *member).await;
    assert_eq!((number(&later), later.deliveries), (1, 3));
    bench.settle(&later, Settlement::Done).await;

    // What is at work is not delivered again, for as long as that is said.
    let stop = Instant::now() + Duration::from_secs(4);
    while Instant::now() < stop {
        bench.settle(&first[3], Settlement::Working).await;
        quiet(&mut *member, Duration::from_millis(400)).await;
    }
    let again = next(&mut *member).await;
    assert_eq!((number(&again), again.deliveries), (3, 2));
    bench.settle(&again, Settlement::Done).await;
    eventually(LONG, || async { bench.consumer().await["num_ack_pending"] == 0 }).await;
    quiet(&mut *member, Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_for_than_there_is_room() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..100).await;
    let mut member = bench.join(&config()).await;
    let take = async |member: &mut dyn Deliveries, room: usize| {
        let next = poll_fn(|cx| member.poll_next(room, cx));
        tokio::time::timeout(LONG, next).await.unwrap().unwrap()
    };
    // Of ten that there is room for some are handed out, so that there is room for less.
    for given in 0..10 {
        let delivery = take(&mut *member, 10 - given).await;
        assert_eq!(number(&delivery), given as u64);
        let unsettled = bench.consumer().await["num_ack_pending"].as_u64().unwrap();
        assert!(unsettled <= 10, "{unsettled}");
    }
    let none =
        tokio::time::timeout(Duration::from_millis(300), poll_fn(|cx| member.poll_next(0, cx)));
    assert!(none.await.is_err());
    assert_eq!(bench.consumer().await["num_ack_pending"], 10);
    assert_eq!(number(&take(&mut *member, 1).await), 10);
    assert_eq!(bench.consumer().await["num_ack_pending"], 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_together_have_no_more_in_flight_than_is_set() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..60).await;
    let mut config = config();
    config.max_in_flight = 20;
    let mut one = bench.join(&config).await;
    let mut other = bench.join(&config).await;
    let mut taken = Vec::new();
    for _ in 0..20 {
        let delivery = tokio::select! {
            delivery = next(&mut *one) => delivery,
            delivery = next(&mut *other) => delivery,
        };
        taken.push(delivery);
    }
    quiet(&mut *one, Duration::from_millis(300)).await;
    quiet(&mut *other, Duration::from_millis(300)).await;
    let mut seen: Vec<u64> = taken.iter().map(number).collect();
    // What is settled makes room at once.
    for delivery in taken {
        bench.settle(&delivery, Settlement::Done).await;
    }
    while seen.len() < 60 {
        let delivery = tokio::select! {
            delivery = next(&mut *one) => delivery,
            delivery = next(&mut *other) => delivery,
        };
        bench.settle(&delivery, Settlement::Done).await;
        seen.push(number(&delivery));
    }
    assert_eq!(all_of(&seen, 0..60), 0);
    assert_eq!((one.events().restarts, other.events().restarts), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_come_in_bounded_portions_and_none_is_too_large() {
    let server = Server::builder().jetstream().max_payload(12 * 1024 * 1024).start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let client = bench.connector.client().unwrap();
    for n in 0..12u8 {
        let size = if n == 5 { 11 * 1024 * 1024 } else { 3 * 1024 * 1024 };
        let answer = client.request("orders.large", vec![n; size].into()).await.unwrap();
        assert!(String::from_utf8_lossy(&answer.payload).contains("seq"), "{answer:?}");
    }
    let mut member = bench.join(&config()).await;
    for n in 0..12u8 {
        let delivery = next(&mut *member).await;
        assert_eq!(delivery.message.payload[0], n);
        let unsettled = bench.consumer().await["num_ack_pending"].as_u64().unwrap();
        assert!(unsettled < 12, "all at once");
        bench.settle(&delivery, Settlement::Done).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consumer_begins_where_it_was_asked_to() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..10).await;
    let third = bench.streams().message_from(STREAM, ">", 3, soon()).await.unwrap().unwrap();
    for (start, first) in
        [(Start::All, 0), (Start::Sequence(5), 4), (Start::Time(third.stored), 2), (Start::New, 10)]
    {
        let mut config = config();
        config.name = format!("from-{first}");
        config.start = start;
        let mut member = bench.join(&config).await;
        if start == Start::New {
            bench.publish(10..11).await;
        }
        assert_eq!(number(&next(&mut *member).await), first, "{start:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_for_the_subjects_of_its_filters() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let client = bench.connector.client().unwrap();
    for subject in ["orders.a.1", "orders.b.1", "orders.c.1", "orders.a.2"] {
        client.request(subject, subject.into()).await.unwrap();
    }
    for (name, filters, subjects) in [
        ("one", &["orders.a.*"][..], &["orders.a.1", "orders.a.2"][..]),
        ("two", &["orders.b.>", "orders.a.>"], &["orders.a.1", "orders.b.1", "orders.a.2"]),
    ] {
        let mut config = config();
        config.name = name.to_owned();
        config.filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let mut member = bench.join(&config).await;
        // Found as it was made, in whatever order the filters are.
        config.filters.reverse();
        drop(bench.join(&config).await);
        for subject in subjects {
            assert_eq!(&*next(&mut *member).await.message.subject, *subject);
        }
        quiet(&mut *member, Duration::from_millis(200)).await;
    }
}

/// A stored message can look like what the server itself says to a pull.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_are_messages() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..1).await;
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let head = "NATS/1.0 409 Consumer Deleted\r\n\r\n";
    let publish = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB orders.new {0} {1}\r\n{head}1\r\nPING\r\n",
        head.len(),
        head.len() + 1,
    );
    tokio::io::AsyncWriteExt::write_all(&mut writer, publish.as_bytes()).await.unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(reader));
    while lines.next_line().await.unwrap().unwrap() != "PONG" {}
    bench.publish(2..3).await;
    let mut member = bench.join(&config()).await;
    assert_eq!(bench.work(&mut *member, 3).await, [0, 1, 2]);
    assert_eq!(member.events().restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_member_hands_over_at_once() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut config = config();
    config.ack_wait = LONG * 10;
    let mut leaver = bench.join(&config).await;
    // Half of what there is room for has come: the pull for more is open when it leaves.
    bench.publish(0..300).await;
    let mut seen = bench.work(&mut *leaver, 100).await;
    let publisher = bench.publish(300..2_000);
    let drain = async {
        leaver.drain(soon()).await.unwrap();
    };
    let ((), ()) = tokio::join!(publisher, drain);
    while let Some(delivery) = poll_fn(|cx| leaver.poll_next(256, cx)).await {
        bench.settle(&delivery, Settlement::Done).await;
        seen.push(number(&delivery));
    }
    // Nobody asks for messages now.
    assert_eq!(bench.consumer().await["num_waiting"], 0);
    let mut member = bench.join(&config).await;
    let rest = 2_000 - seen.len();
    seen.extend(bench.work(&mut *member, rest).await);
    assert_eq!(all_of(&seen, 0..2_000), 0);
    eventually(LONG, || async { bench.consumer().await["num_ack_pending"] == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_member_that_goes_takes_nothing_with_it() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut config = config();
    config.ack_wait = LONG * 10;
    for how in ["drained", "closed", "dropped"] {
        let mut leaver = bench.join(&config).await;
        quiet(&mut *leaver, Duration::from_millis(100)).await;
        let subscriptions = async || server.subsz().await["num_subscriptions"].as_u64().unwrap();
        let before = subscriptions().await;
        match how {
            "drained" => leaver.drain(soon()).await.unwrap(),
            "closed" => leaver.close().await,
            _ => drop(leaver),
        }
        eventually(LONG, || async { subscriptions().await < before }).await;
        let mut member = bench.join(&config).await;
        bench.publish(0..10).await;
        assert_eq!(bench.work(&mut *member, 10).await, (0..10).collect::<Vec<_>>(), "{how}");
        member.drain(soon()).await.unwrap();
        assert!(poll_fn(|cx| member.poll_next(1, cx)).await.is_none());
        assert!(poll_fn(|cx| member.poll_next(1, cx)).await.is_none());
    }
}
