//! How refusals are told.

use futures::StreamExt;
use nats_connector::pubsub::Message;
use nats_connector::{Error, ErrorKind};
use testkit::{Permissions, Server, Version, require};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{PATIENCE, connect, orders};

#[tokio::test(flavor = "multi_thread")]
async fn responses_may_be_allowed_without_the_inbox() {
    if !require(Version::V2_15) {
        return;
    }
    let may = Permissions::default().subscribe(&["_INBOX.>", "price.get"]).responses();
    let server = Server::builder().user("admin", "secret").user_with("service", "secret", &may);
    let server = server.start().await;
    let service = connect(&server, "service").await;
    let answer = |message: Message| async move { message.respond(&7).await };
    service.pubsub().subscribe("price.get", answer).await.unwrap();
    let admin = connect(&server, "admin").await;
    let answer = admin.pubsub().request("price.get", &1).await.unwrap();
    assert_eq!(answer.decode::<u32>().unwrap(), 7);
    assert_eq!(
        service.pubsub().request("price.other", &1).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_once_by_the_call_that_met_it() {
    if !require(Version::V2_15) {
        return;
    }
    let may = Permissions::default().subscribe(&["_INBOX.>"]).publish(&["_INBOX.>"]);
    let server = Server::builder().jetstream().user_with("user", "secret", &may).start().await;
    let user = connect(&server, "user").await;
    let refused = |error: Error, subject: &str| {
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert_eq!(error.context("subject"), Some(subject), "{error}");
    };

    refused(user.pubsub().request("price.get", &1).await.unwrap_err(), "price.get");
    user.pubsub().flush().await.unwrap();

    user.pubsub().publish("orders.created", &1).await.unwrap();
    let told = timeout(PATIENCE, async {
        loop {
            // On a busy machine the refusal may come in later than the first round trips.
            if let Err(error) = user.pubsub().flush().await {
                return error;
            }
        }
    });
    refused(told.await.unwrap(), "orders.created");
    user.pubsub().flush().await.unwrap();

    match user.pubsub().messages("orders.*").await {
        Err(error) => refused(error, "orders.*"),
        Ok(mut late) => {
            assert!(timeout(PATIENCE, late.next()).await.unwrap().is_none());
        }
    }
    user.pubsub().flush().await.unwrap();
}

/// The word that is tried when the subscription is made is permitted, those about messages are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_durable_subscription_whose_settlements_are_refused_ends() {
    if !require(Version::V2_15) {
        return;
    }
    let may = Permissions::default().deny_publish(&["$JS.ACK.ORDERS.billing.1.>"]);
    let server = Server::builder().jetstream().user("admin", "secret");
    let server = server.user_with("user", "secret", &may).start().await;
    let (admin, user) = (connect(&server, "admin").await, connect(&server, "user").await);
    orders(&admin).await.unwrap();
    let (sender, mut heard) = mpsc::unbounded_channel();
    let handler = move |_: Message| {
        let sender = sender.clone();
        async move { sender.send(()) }
    };
    let billing = user.pubsub().subscribe("orders.*", handler).durable("billing").await.unwrap();
    admin.pubsub().publish("orders.created", &1).jetstream().await.unwrap();
    assert!(timeout(PATIENCE, heard.recv()).await.unwrap().is_some());
    // The handler is dropped when the subscription has ended.
    assert!(timeout(PATIENCE, heard.recv()).await.unwrap().is_none());
    assert_eq!(billing.stats().handled, 1);
}
