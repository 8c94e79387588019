//! The buckets of a service: made when missing, never rewritten.

use std::time::Duration;

use async_nats::jetstream::kv::Config;
use nats_connector::kv::BucketConfig;
use nats_connector::rpc::{Endpoint, Method, Persist, Request, Sender};
use nats_connector::{ErrorKind, objects};

use crate::{Ask, Profile, ask, config, in_users, jetstream, kept, save, serve, stored, user_key};

fn get() -> Method<Ask, Profile> {
    Method::json("get_profile")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_with_what_all_methods_say_of_it() {
    let (_server, nats) = jetstream().await;
    let hour = BucketConfig::new("users").ttl(Duration::from_secs(3600)).description("profiles");
    let history = BucketConfig::new("users").history(5).max_bytes(1_000_000);
    let methods = [
        save().persist(Persist::kv(hour, user_key)),
        get().persist(Persist::kv(history, user_key).client_only()),
    ];
    let service = serve(&nats.rpc(), &methods).await.unwrap();
    let status = nats.kv().bucket("users").bucket_status().await.unwrap().unwrap();
    let wanted = BucketConfig::new("users")
        .ttl(Duration::from_secs(3600))
        .description("profiles")
        .history(5)
        .max_bytes(1_000_000);
    let made = nats.kv().get_or_create_bucket(wanted).await.unwrap();
    assert_eq!((made.made, made.differences), (false, Vec::new()), "{status:?}");
    let stores = service.stores();
    assert_eq!(stores.len(), 1);
    assert!(stores[0].ready && stores[0].differences.is_empty(), "{stores:?}");
    assert_eq!(stores[0].methods, ["save_profile", "get_profile"]);

    // What only clients keep, the service does not store.
    let client = nats.rpc().client(config());
    client.call(&methods[1], ask("1", "Ada")).await.unwrap();
    client.call(&methods[0], ask("2", "Ada")).await.unwrap();
    stored(&service, "save_profile", 1).await;
    assert_eq!(nats.kv().bucket("users").keys().await.unwrap(), ["user.2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_disagree_about_a_bucket_are_refused_at_the_start() {
    let (_server, nats) = jetstream().await;
    let hour = BucketConfig::new("users").ttl(Duration::from_secs(3600));
    let day = BucketConfig::new("users").ttl(Duration::from_secs(86_400));
    let methods =
        [save().persist(Persist::kv(hour, user_key)), get().persist(Persist::kv(day, user_key))];
    let error = serve(&nats.rpc(), &methods).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for named in ["save_profile", "get_profile", "1h", "1day", "bucket=users", "option=ttl"] {
        assert!(error.to_string().contains(named), "no {named} in {error}");
    }
    assert_eq!(nats.kv().bucket("users").bucket_status().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_an_operator_stays_as_it_is() {
    let (_server, nats) = jetstream().await;
    let context = async_nats::jetstream::new(nats.client().unwrap());
    let theirs = Config {
        bucket: "users".to_owned(),
        history: 10,
        description: "theirs".to_owned(),
        max_age: Duration::from_secs(600),
        ..Config::default()
    };
    context.create_key_value(theirs).await.unwrap();
    let stream = || async { context.get_stream("KV_users").await.unwrap().cached_info().clone() };
    let before = stream().await;

    let ours = BucketConfig::new("users").ttl(Duration::ZERO).history(1);
    let method = save().persist(Persist::kv(ours, user_key));
    let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let client = nats.rpc().client(config());
    for name in ["Ada", "Grace"] {
        client.call(&method, ask("u=3A1", name)).await.unwrap();
    }
    stored(&service, "save_profile", 2).await;
    assert_eq!(stream().await.config, before.config);
    let bucket = context.get_key_value("users").await.unwrap();
    let value = bucket.get("user.u=3A1").await.unwrap().expect("the key is as it is");
    assert!(value.starts_with(b"{") && bucket.status().await.unwrap().values() == 2);

    let stores = service.stores();
    let options: Vec<_> = stores[0].differences.iter().map(|it| it.option).collect();
    assert_eq!(options, ["ttl", "history"]);
    let told = kept(&service, "save_profile")["stores"][0]["differences"].to_string();
    assert!(told.contains("ttl is 10m, not none"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_is_made_again_as_it_was() {
    let (_server, nats) = jetstream().await;
    let bucket = BucketConfig::new("users").history(7).description("profiles");
    let method = save().persist(Persist::kv(bucket.clone(), user_key));
    let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let client = nats.rpc().client(config());
    client.call(&method, ask("1", "Ada")).await.unwrap();
    stored(&service, "save_profile", 1).await;
    let context = async_nats::jetstream::new(nats.client().unwrap());
    context.delete_key_value("users").await.unwrap();
    client.call(&method, ask("1", "Grace")).await.unwrap();
    stored(&service, "save_profile", 2).await;
    let found = nats.kv().get_or_create_bucket(bucket).await.unwrap();
    assert_eq!((found.made, found.differences), (false, Vec::new()));
    assert_eq!(client.kv(&method).get("user.1").await.unwrap().unwrap().name, "Grace");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_at_the_start() {
    let (_server, nats) = jetstream().await;
    let bad_name = save().persist(Persist::kv("a bucket", user_key));
    let bad_option = save().persist(Persist::kv(BucketConfig::new("users").history(65), user_key));
    let bad_objects =
        save().persist(Persist::objects(objects::BucketConfig::new("files").replicas(9), user_key));
    for method in [bad_name, bad_option, bad_objects] {
        let error = serve(&nats.rpc(), &[method]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("method=save_profile"), "{error}");
    }
    let streaming = Method::json("list").persist(in_users());
    let list = |_: Request<Ask>, _: Sender<Profile>| async { Ok::<_, nats_connector::Error>(()) };
    let endpoint = Endpoint::server_stream(&streaming, list);
    let error = nats.rpc().service(config()).endpoint(endpoint).serve().await.unwrap_err();
    assert!(error.to_string().contains("streaming"), "{error}");
}
