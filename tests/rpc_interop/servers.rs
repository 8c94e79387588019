//! Our client in front of generated servers.

use std::time::Duration;

#[cfg(feature = "protobuf")]
use nats_connector::rpc::Method;
use nats_connector::rpc::{Client, ServiceConfig, code};
use serde_json::json;

use crate::{
    PATIENCE, alone, count_to, count_up, double, drained, save, save_profile, soon, sum, told,
};

fn of_python(connector: &nats_connector::Connector) -> Client {
    connector.rpc().client(ServiceConfig::new("python").prefix("py.v1"))
}

fn of_go(connector: &nats_connector::Connector) -> Client {
    connector.rpc().client(ServiceConfig::new("go").prefix("go.v1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn python_answers_calls() {
    let Some((_server, connector, mut peer)) = alone().await else { return };
    assert_eq!(peer.ask(&json!({"do": "serve"})), json!({}));
    let client = of_python(&connector);
    let answer = client.call(&save_profile(), save("7")).await.unwrap();
    assert_eq!(answer.get().name, "Py 7");
    let error = client.call(&save_profile(), save("nobody")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::NOT_FOUND, "no such profile"));
    assert!(error.is_remote());

    let rpc = connector.rpc();
    let infos = rpc.discover().name("python").infos().timeout(PATIENCE).await.unwrap();
    let names: Vec<_> = infos[0].endpoints.iter().map(|it| (&*it.name, &*it.subject)).collect();
    assert_eq!(names[0], ("SaveProfile", "py.v1.save_profile"));
    assert_eq!(names[2], ("CountUp", "py.v1.count_up"));
    let stats = rpc.discover().name("python").stats().timeout(PATIENCE).await.unwrap();
    assert_eq!(stats[0].endpoints[0].num_requests, 2);
}

#[cfg(feature = "protobuf")]
#[tokio::test(flavor = "multi_thread")]
async fn python_answers_calls_in_protobuf() {
    use nats_connector::rpc::protobuf::{Protobuf, prost};

    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "::nats_connector::rpc::protobuf::prost")]
    struct Message {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(string, tag = "2")]
        name: String,
    }

    let Some((_server, connector, mut peer)) = alone().await else { return };
    assert_eq!(peer.ask(&json!({"do": "serve"})), json!({}));
    let client = of_python(&connector);
    let method: Method<Message, Message> = Method::with_codec("save_profile_binary", Protobuf);
    let message = |id: &str, name: &str| Message { id: id.to_owned(), name: name.to_owned() };
    let answer = client.call(&method, message("7é", "")).await.unwrap();
    assert_eq!(answer.get(), &message("7é", "Py 7é"));
    // A message without fields has no bytes.
    let error = client.call(&method, message("", "")).await.unwrap_err();
    assert!(error.is(code::INVALID_ARGUMENT) && error.is_remote());
}

#[tokio::test(flavor = "multi_thread")]
async fn python_streams() {
    let Some((_server, connector, mut peer)) = alone().await else { return };
    assert_eq!(peer.ask(&json!({"do": "serve"})), json!({}));
    let client = of_python(&connector);
    let count = |to, then| client.server_stream(&count_up(), count_to(to, then));
    assert_eq!(drained(count(0, "end").await.unwrap()).await, (vec![], None));
    assert_eq!(drained(count(3, "end").await.unwrap()).await, (vec![1, 2, 3], None));
    let failed = drained(count(3, "fail").await.unwrap()).await;
    assert_eq!(failed, (vec![1, 2, 3], told("NOT_FOUND", "bad start")));
    // One that falls silent is no end.
    let silent = count(3, "").idle_timeout(Duration::from_secs(2)).await.unwrap();
    let (all, error) = drained(silent).await;
    assert_eq!((all, error.unwrap().0), (vec![1, 2, 3], code::DEADLINE_EXCEEDED.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_at_once_are_all_read() {
    let Some((_server, connector, mut peer)) = alone().await else { return };
    peer.ask(&json!({"do": "serve"}));
    peer.ask(&json!({"do": "serve_go"}));
    for client in [of_python(&connector), of_go(&connector)] {
        // Beyond the window of the method, which these servers do not know.
        let mut items =
            client.server_stream(&count_up().window(1), count_to(10_000, "end")).await.unwrap();
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), 1);
        // The reader is slow: all of it has come.
        let other = client.server_stream(&count_up(), count_to(1, "end")).await.unwrap();
        assert_eq!(drained(other).await, (vec![1], None));
        assert_eq!(drained(items).await, ((2..=10_000).collect(), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go_streams_and_takes_streams() {
    let Some((_server, connector, mut peer)) = alone().await else { return };
    assert_eq!(peer.ask(&json!({"do": "serve_go"})), json!({}));
    let client = of_go(&connector);
    let failed = client.server_stream(&count_up(), count_to(3, "fail")).await.unwrap();
    assert_eq!(drained(failed).await, (vec![1, 2, 3], told("INTERNAL", "bad start")));

    for (to, expected) in [(10_000_u64, Ok(50_005_000)), (0, Err("nothing to add"))] {
        let mut stream = soon(client.client_stream(&sum())).await.unwrap();
        for number in 1..=to {
            soon(stream.send(number)).await.unwrap();
        }
        let answer = soon(stream.finish()).await;
        let answer = answer.as_ref().map(|it| *it.get()).map_err(|error| error.message());
        assert_eq!(answer, expected);
    }

    let (mut sender, mut items) = soon(client.bidi(&double())).await.unwrap();
    for number in 1..=100 {
        soon(sender.send(number)).await.unwrap();
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), 2 * number);
    }
    soon(sender.finish()).await.unwrap();
    assert!(soon(items.next()).await.is_none());
}
