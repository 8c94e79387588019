//! What a service cannot start with, and where its endpoints are.

use std::time::Duration;

use nats_connector::rpc::{Endpoint, Group, Method, ServiceConfig};
use nats_connector::{ErrorKind, Settings};
use testkit::{Permissions, Server};

use crate::{Get, Profile, connect, find, get, profiles};

fn method(name: &str) -> Method<Get, Profile> {
    Method::json(name)
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint::unary(&method(name), find)
}

fn wide() -> Endpoint {
    Endpoint::unary(&method("a").window(65_537), find)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_name() {
    let server = Server::builder().start().await;
    let rpc = connect(&server).await.rpc();
    let ok = || rpc.service(profiles());
    let new = |config: ServiceConfig| rpc.service(config).endpoint(endpoint("a"));
    for (service, words) in [
        (new(ServiceConfig::new("a.b").prefix("x")), vec!["service=a.b", "letters"]),
        (new(ServiceConfig::new("").prefix("x")), vec!["letters"]),
        (new(profiles().version("1.2")), vec!["version=1.2", "1.0.0"]),
        (new(profiles().prefix("a b")), vec!["white space", "endpoint=a"]),
        (new(profiles().prefix("a.>")), vec!["wildcard"]),
        (new(profiles().prefix(".a")), vec!["empty token"]),
        (new(profiles().prefix("$SRV.PING")), vec!["$SRV", "endpoint=a"]),
        (ok().endpoint(wide()), vec!["window is 65537", "1 to 65536", "method=a"]),
        (ok().endpoint(endpoint("a.b")), vec!["endpoint=a.b"]),
        (ok().endpoint(endpoint("a").queue("q q")), vec!["queue", "endpoint=a"]),
        (ok().endpoint(endpoint("a").concurrency(0)), vec!["concurrency is 0", "1 to 65536"]),
        (ok().endpoint(endpoint("a").waiting(1_000_001)), vec!["may wait is 1000001"]),
        (ok().endpoint(endpoint("a")).endpoint(endpoint("a")), vec!["profiles.a", "endpoint=a"]),
        (
            ok().endpoint(endpoint("a")).group(Group::new("").endpoint(endpoint("a"))),
            vec!["group has no subject"],
        ),
    ] {
        let error = service.serve().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().starts_with("serve: "), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }
    let opened = rpc.client(profiles()).server_stream(&method("a").window(65_537), get("1"));
    let error = opened.await.unwrap_err();
    assert!(error.to_string().contains("window is 65537"), "{error}");
    // Nothing is left of them.
    rpc.pubsub().flush().await.unwrap();
    assert_eq!(server.connz().await["connections"][0]["subscriptions"], 1, "the inbox alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_queue_groups_are_where_they_are_put() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let group = Group::new("v2.admin")
        .queue("admins")
        .endpoint(endpoint("get"))
        .endpoint(endpoint("all").no_queue())
        .group(Group::new("deep").endpoint(endpoint("get").queue("own")));
    let service = connector
        .rpc()
        .service(ServiceConfig::new("grouped").prefix(""))
        .endpoint(endpoint("get").metadata("kind", "plain"))
        .group(group)
        .group(Group::new("none").no_queue().endpoints([endpoint("get")]))
        .serve()
        .await
        .unwrap();
    let told: Vec<_> = service.info().endpoints;
    let told: Vec<_> = told.iter().map(|it| (&*it.name, &*it.subject, &*it.queue_group)).collect();
    assert_eq!(
        told,
        [
            ("get", "get", "q"),
            ("get", "v2.admin.get", "admins"),
            ("all", "v2.admin.all", ""),
            ("get", "v2.admin.deep.get", "own"),
            ("get", "none.get", ""),
        ]
    );
    let client = connector.rpc().client(ServiceConfig::new("x").prefix("v2.admin.deep"));
    client.call(&method("get"), get("1")).await.unwrap();
    let stats = service.stats().endpoints;
    let counts: Vec<_> = stats.iter().map(|endpoint| endpoint.num_requests).collect();
    assert_eq!(counts, [0, 0, 0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_calls_unless_they_are_to_have_all() {
    let server = Server::builder().start().await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut services = Vec::new();
    for connector in [&one, &two] {
        let service = connector.rpc().service(profiles()).endpoint(endpoint("shared"));
        services.push(service.endpoint(endpoint("all").no_queue()).serve().await.unwrap());
    }
    let client = connect(&server).await.rpc().client(profiles());
    for _ in 0..100 {
        client.call(&method("shared"), get("1")).await.unwrap();
        client.call(&method("all"), get("1")).await.unwrap();
    }
    let counts = |endpoint: usize| -> Vec<u64> {
        services.iter().map(|it| it.stats().endpoints[endpoint].num_requests).collect()
    };
    testkit::eventually(crate::PATIENCE, || async { counts(1) == [100, 100] }).await;
    let shared = counts(0);
    assert_eq!(shared.iter().sum::<u64>(), 100);
    assert!(shared.iter().all(|count| *count > 0), "{shared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_not_permitted_is_named_and_nothing_is_left() {
    let permissions = Permissions::default().deny_subscribe(&["$SRV.STATS.>"]);
    let server = Server::builder().user_with("ann", "secret", &permissions);
    let server = server.user("admin", "secret").start().await;
    let settings = |user: &str| {
        let settings = Settings::builder().set("NATS.SERVER", server.url());
        settings.set("NATS.USERNAME", user).set("NATS.PASSWORD", "secret").build().unwrap()
    };
    let connector = nats_connector::Connector::connect(&settings("ann")).await.unwrap();
    let service = connector.rpc().service(profiles()).endpoint(endpoint("a"));
    let error = service.serve().timeout(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains("$SRV.STATS.profiles"), "{error}");
    let admin = nats_connector::Connector::connect(&settings("admin")).await.unwrap();
    let client = admin.rpc().client(profiles());
    testkit::eventually(crate::PATIENCE, || async {
        client.call(&method("a"), get("1")).await.is_err_and(|error| error.is_no_responders())
    })
    .await;
}
