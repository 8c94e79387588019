//! Writes of one key have the order of the replies, and there is an end to how many wait.

use futures::{StreamExt, stream};
use nats_connector::kv::BucketConfig;
use nats_connector::rpc::{Change, Persist, Policy};

use crate::{
    LONG, Lab, Profile, ask, config, in_users, jetstream, kept, save, serve, stored, user_key,
};

fn names(history: Vec<Change<Profile>>) -> Vec<String> {
    let name = |change: Change<Profile>| match change {
        Change::Put { entry, .. } => entry.value.name,
        other => panic!("not a response: {other:?}"),
    };
    history.into_iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_a_key_have_the_order_of_the_replies() {
    let lab = Lab::start().await;
    let bucket = BucketConfig::new("users").history(64);
    let method = save().persist(Persist::kv(bucket, user_key).timeout(LONG));
    let service = serve(&lab.rpc(), std::slice::from_ref(&method)).await.unwrap();
    lab.proxy.black_hole();
    let expected: Vec<String> = (0..50).map(|n| format!("name {n}")).collect();
    for name in &expected {
        lab.client().call(&method, ask("1", name)).timeout(LONG).await.unwrap();
    }
    lab.proxy.resume();
    stored(&service, "save_profile", 50).await;
    let history = lab.client().kv(&method).history("user.1").await.unwrap();
    assert_eq!(names(history), expected);
}

/// Calls of one key at the same time, whose replies one connection gets in an order: what is stored
/// last is what was replied last.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_of_a_key_are_stored_in_the_order_of_their_replies() {
    let (_server, nats) = jetstream().await;
    let bucket = BucketConfig::new("users").history(64);
    for policy in [Policy::AfterReply, Policy::BeforeReply] {
        let persist = Persist::kv(bucket.clone(), user_key).policy(policy);
        let method = save().persist(persist.timeout(LONG));
        let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
        let client = nats.rpc().client(config());
        let key = format!("{policy:?}");
        // One inbox for all, so that the order of the replies is seen.
        let raw = nats.client().unwrap();
        let inbox = raw.new_inbox();
        let mut replies = raw.subscribe(inbox.clone()).await.unwrap();
        for n in 0..60 {
            let body = serde_json::to_vec(&ask(&key, &n.to_string())).unwrap();
            let to = "profiles.save_profile";
            raw.publish_with_reply(to, inbox.clone(), body.into()).await.unwrap();
        }
        let mut replied = Vec::new();
        while replied.len() < 60 {
            let reply = tokio::time::timeout(LONG, replies.next()).await.unwrap().unwrap();
            replied.push(serde_json::from_slice::<Profile>(&reply.payload).unwrap().name);
        }
        stored(&service, "save_profile", 60).await;
        let history = client.kv(&method).history(format!("user.{key}")).await.unwrap();
        assert_eq!(names(history), replied, "{policy:?}");
        service.drain().await.unwrap();
    }
}

/// Instances do not know of each other: what is stored last is the whole reply of one of them.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_store_whole_replies() {
    let (server, nats) = jetstream().await;
    let other = crate::connect(server.url()).await;
    let method = save().persist(in_users());
    let mut services = Vec::new();
    for connector in [&nats, &other] {
        services.push(serve(&connector.rpc(), std::slice::from_ref(&method)).await.unwrap());
    }
    let client = nats.rpc().client(config());
    let (client, method) = (&client, &method);
    let calls = stream::iter(0..testkit::size(200, 5_000)).map(|n| async move {
        client.call(method, ask(&(n % 5).to_string(), &n.to_string())).timeout(LONG).await.unwrap();
    });
    calls.buffer_unordered(32).count().await;
    for service in &services {
        service.drain().timeout(LONG).await.unwrap();
        assert_eq!(kept(service, "save_profile")["failed"], 0);
    }
    for n in 0..5_u64 {
        let found = client.kv(method).get(format!("user.{n}")).await.unwrap().unwrap();
        assert_eq!(found.id, n.to_string());
        assert_eq!(found.name.parse::<u64>().unwrap() % 5, n);
    }
}

/// More writes wait than may: calls go on, each is either stored in the end or counted as refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_and_calls_go_on_without_the_store() {
    let lab = Lab::start().await;
    let method = save().persist(in_users().timeout(std::time::Duration::from_secs(3)));
    let service = serve(&lab.rpc(), std::slice::from_ref(&method)).await.unwrap();
    lab.proxy.black_hole();
    let client = lab.client();
    let (client, method) = (&client, &method);
    let calls = stream::iter(0..1_500).map(|n| async move {
        client.call(method, ask(&n.to_string(), "Ada")).timeout(LONG).await.unwrap();
    });
    calls.buffer_unordered(64).count().await;
    let most = kept(&service, "save_profile")["pending"].as_u64().unwrap();
    assert!(most <= 1_024, "{most}");
    testkit::eventually(LONG, || async {
        let kept = kept(&service, "save_profile");
        kept["failed"] == 1_500 && kept["pending"] == 0
    })
    .await;
    lab.proxy.resume();
    testkit::eventually(LONG, || async {
        client.call(method, ask("late", "Ada")).timeout(LONG).await.unwrap();
        client.kv(method).get("user.late").await.unwrap().is_some()
    })
    .await;
}
