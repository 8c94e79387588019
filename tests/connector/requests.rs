//! Requests: many at once, nobody there, and nothing left of those that time out.

use std::time::Duration;

use futures::future::join_all;
use nats_connector::ErrorKind;
use nats_connector::pubsub::Message;
use testkit::{Server, size};

use crate::{LONG, connect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_at_once_each_get_their_own_answer() {
    let server = Server::builder().start().await;
    let connector = connect(&[("SERVER", &server.url())]).await;
    let double = |message: Message| async move {
        let number: u32 = message.decode()?;
        message.respond(&(2 * number)).await
    };
    connector.pubsub().subscribe("double", double).concurrency(16).await.unwrap();
    let calls = (0..2_000).map(|number: u32| {
        let call = connector.pubsub().request("double", &number).timeout(LONG);
        tokio::spawn(async move { (number, call.await.unwrap().decode::<u32>().unwrap()) })
    });
    for answer in join_all(calls).await {
        let (number, answer) = answer.unwrap();
        assert_eq!(answer, 2 * number);
    }
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let server = Server::builder().start().await;
    let connector = connect(&[("SERVER", &server.url())]).await;
    for _ in 0..100 {
        let call = connector.pubsub().request("nobody", "x").timeout(10 * LONG);
        let error = tokio::time::timeout(LONG, call).await.expect("at once").unwrap_err();
        assert!(error.is_no_responders() && error.is_retryable(), "{error}");
        assert!(error.to_string().contains("nobody)"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_nobody_elses() {
    let server = Server::builder().start().await;
    let connector = connect(&[("SERVER", &server.url())]).await;
    let mut asked = connector.pubsub().messages("slow").await.unwrap();
    let moment = Duration::from_millis(50);
    let first = connector.pubsub().request("slow", &1).timeout(moment).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Timeout, "{first}");
    assert!(!first.is_no_responders());
    let answering = tokio::spawn(async move {
        for _ in 0..2 {
            let message = futures::StreamExt::next(&mut asked).await.unwrap();
            message.respond(&message.decode::<u32>().unwrap()).await.unwrap();
        }
    });
    let second = connector.pubsub().request("slow", &2).timeout(LONG).await.unwrap();
    assert_eq!(second.decode::<u32>().unwrap(), 2);
    answering.await.unwrap();
}

#[tokio::test]
async fn requests_that_time_out_leave_no_task() {
    let server = Server::builder().start().await;
    let connector = connect(&[("SERVER", &server.url())]).await;
    let _silent = connector.pubsub().messages("silent").await.unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let calls = (0..size(500, 5_000))
        .map(|_| connector.pubsub().request("silent", "x").timeout(Duration::from_millis(20)));
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(metrics.num_alive_tasks(), before);
}

#[tokio::test]
async fn a_connector_leaves_no_task_and_no_connection() {
    let server = Server::builder().start().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let gone = || async { metrics.num_alive_tasks() == before };
    for drained in [true, false] {
        let connector = connect(&[("SERVER", &server.url())]).await;
        let ignore = |_: Message| async {};
        let subscription = connector.pubsub().subscribe("a", ignore).await.unwrap();
        let stream = connector.pubsub().messages("a").await.unwrap();
        connector.pubsub().flush().await.unwrap();
        assert!(metrics.num_alive_tasks() > before);
        drop(stream);
        if drained {
            assert!(connector.drain().await.is_clean());
        } else {
            subscription.unsubscribe().await.unwrap();
        }
        drop((connector, subscription));
        testkit::eventually(LONG, gone).await;
    }
    assert_eq!(server.varz().await["connections"], 0);
}
