//! When responses are stored, and what a failure means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use nats_connector::kv::BucketConfig;
use nats_connector::rpc::{Endpoint, Persist, Policy, Request, code};

use crate::{
    LONG, Lab, ask, config, echo, in_users, jetstream, kept, save, serve, stored, user_key,
};

/// Many calls are answered while not one of their writes is: what they wait for has nothing to do with
/// the store.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_reply_nothing_is_added_to_the_call() {
    let lab = Lab::start().await;
    let method = save().persist(in_users().timeout(LONG));
    let service = serve(&lab.rpc(), std::slice::from_ref(&method)).await.unwrap();
    lab.proxy.black_hole();
    for n in 0..20 {
        lab.client().call(&method, ask(&n.to_string(), "Ada")).timeout(LONG).await.unwrap();
    }
    testkit::eventually(LONG, || async { kept(&service, "save_profile")["pending"] == 20 }).await;
    assert_eq!(kept(&service, "save_profile")["stored"], 0);
    assert_eq!(service.health().running, 0);
    lab.proxy.resume();
    stored(&service, "save_profile", 20).await;
    assert_eq!(kept(&service, "save_profile")["failed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_reply_the_call_waits_for_the_store_with_a_time_of_its_own() {
    let lab = Lab::start().await;
    for (n, policy) in [Policy::BeforeReply, Policy::Required].into_iter().enumerate() {
        // The handler's time does not count for the write.
        let method = save().persist(in_users().policy(policy).timeout(LONG));
        let method = method.timeout(Duration::from_secs(10));
        let service = serve(&lab.rpc(), std::slice::from_ref(&method)).await.unwrap();
        lab.client().call(&method, ask("1", "first")).timeout(LONG).await.unwrap();
        lab.proxy.black_hole();
        let name = format!("name {n}");
        let mut call = lab.client().call(&method, ask("1", &name)).timeout(LONG);
        assert!((&mut call).now_or_never().is_none());
        testkit::eventually(LONG, || async { kept(&service, "save_profile")["pending"] == 1 })
            .await;
        let mut call = Box::pin(call);
        if policy == Policy::Required {
            // Longer than the handler may take.
            assert!(tokio::time::timeout(Duration::from_millis(10_500), &mut call).await.is_err());
        }
        lab.proxy.resume();
        assert_eq!(call.await.unwrap().get().name, name);
        let found = lab.near.rpc().client(config()).kv(&method).get("user.1").await.unwrap();
        assert_eq!(found.unwrap().name, name);
        service.drain().timeout(LONG).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_responses_of_calls_that_succeed_are_stored() {
    let (_server, nats) = jetstream().await;
    for policy in [Policy::AfterReply, Policy::BeforeReply, Policy::Required] {
        let method = save().persist(in_users().policy(policy));
        let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
        let client = nats.rpc().client(config());
        let error = client.call(&method, ask("failing", "fail")).await.unwrap_err();
        assert!(error.is(code::NOT_FOUND));
        service.drain().await.unwrap();
        assert_eq!(client.kv(&method).get("user.failing").await.unwrap(), None);
        assert_eq!(kept(&service, "save_profile")["failed"], 0);
    }
}

/// A bucket that is full: the calls of the first two policies are right, those of the third fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_fails_what_is_required_and_is_counted() {
    let (_server, nats) = jetstream().await;
    let client = nats.rpc().client(config());
    for policy in [Policy::AfterReply, Policy::BeforeReply, Policy::Required] {
        let bucket = format!("small-{policy:?}");
        let small = BucketConfig::new(&*bucket).max_bytes(2_000);
        let method = save().persist(Persist::kv(small, user_key).policy(policy).receipt());
        let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
        let large = ask("1", &"x".repeat(4_000));
        let called = client.call(&method, large).await;
        match policy {
            Policy::Required => {
                let error = called.unwrap_err();
                assert!(error.is(code::INTERNAL), "{error}");
                for named in [&*bucket, "user.1", "could not be kept"] {
                    assert!(error.message().contains(named), "no {named} in {error}");
                }
            }
            _ => assert_eq!(called.unwrap().get().name.len(), 4_000),
        }
        service.drain().await.unwrap();
        let kept = kept(&service, "save_profile");
        assert_eq!((&kept["failed"], &kept["stored"]), (&1.into(), &0.into()), "{kept}");
        let last = kept["last_error"].as_str().unwrap();
        assert!(last.contains(&bucket) && last.contains("key=user.1"), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_required_and_cannot_be_fails_before_the_handler_runs() {
    let (_server, nats) = jetstream().await;
    let method = save().persist(in_users().policy(Policy::Required));
    let runs = Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    let endpoint = Endpoint::unary(&method, move |request: Request<_>| {
        counted.fetch_add(1, Ordering::Relaxed);
        echo(request)
    });
    let _service = nats.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = nats.rpc().client(config());
    let error = client.call(&method, ask("a.b", "Eve")).await.unwrap_err();
    assert!(error.is(code::INVALID_ARGUMENT), "{error}");
    for named in ["field=id", "user.a.b", "users"] {
        assert!(error.message().contains(named), "no {named} in {error}");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    client.call(&method, ask("a-b", "Ada")).await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}
