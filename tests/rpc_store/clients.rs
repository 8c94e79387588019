//! What clients read and write, with the service and without it.

use std::time::Duration;

use futures::StreamExt;
use nats_connector::kv::BucketConfig;
use nats_connector::objects::Objects;
use nats_connector::rpc::{Change, Changes, Endpoint, Method, Origin, Persist, Request, Rpc, code};
use nats_connector::{Connector, ErrorKind};

use crate::{
    Ask, LONG, Profile, ask, config, in_users, jetstream, kept, profile, save, serve, stored,
    user_key,
};

async fn next(changes: &mut Changes<Profile>) -> Change<Profile> {
    tokio::time::timeout(LONG, changes.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_read_written_watched_and_deleted_without_the_service() {
    let (_server, nats) = jetstream().await;
    let bucket = BucketConfig::new("users").history(5);
    let method = save().persist(Persist::kv(bucket.clone(), user_key));
    let users = nats.rpc().client(config()).kv(&method);
    assert_eq!(users.get("user.1").await.unwrap(), None);
    assert_eq!(nats.kv().bucket("users").bucket_status().await.unwrap(), None, "reads make none");

    let first = users.put("user.1", &profile("1", "Ada")).await.unwrap();
    let found = nats.kv().get_or_create_bucket(bucket).await.unwrap();
    assert_eq!((found.made, found.differences), (false, Vec::new()), "as the method says");
    let mut changes = users.watch("user.*").await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Put { key, .. } if key == "user.1"));
    assert!(matches!(next(&mut changes).await, Change::Current));

    assert_eq!(users.get_for(&ask("1", "")).await.unwrap(), Some(profile("1", "Ada")));
    let entry = users.entry("user.1").await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.value), (first, profile("1", "Ada")));
    assert!(entry.created.is_some());

    let second = users.put_if("user.1", &profile("1", "Grace"), first).await.unwrap();
    let error = users.put_if("user.1", &profile("1", "Eve"), first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    users.put_for(&ask("1", ""), &profile("1", "Mary")).await.unwrap();
    users.delete("user.1").await.unwrap();
    users.delete("user.none").await.unwrap();
    assert_eq!(users.get("user.1").await.unwrap(), None);

    let names = |changes: &[Change<Profile>]| -> Vec<String> {
        let name = |change: &Change<Profile>| match change {
            Change::Put { entry, .. } => entry.value.name.clone(),
            other => format!("{other:?}").split(' ').next().unwrap_or_default().to_owned(),
        };
        changes.iter().map(name).collect()
    };
    let history = users.history("user.1").await.unwrap();
    assert_eq!(names(&history), ["Ada", "Grace", "Mary", "Deleted"]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next(&mut changes).await);
    }
    assert_eq!(names(&seen), ["Grace", "Mary", "Deleted"]);
    assert!(matches!(&seen[0], Change::Put { entry, .. } if entry.revision == second));

    // What is no response of the method is one error, and the watch goes on.
    nats.kv().bucket("users").set_raw("user.2", "junk").await.unwrap();
    users.put("user.3", &profile("3", "Ada")).await.unwrap();
    let error = tokio::time::timeout(LONG, changes.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("user.2")));
    assert!(matches!(next(&mut changes).await, Change::Put { key, .. } if key == "user.3"));
    let error = users.get("user.2").await.unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("user.2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_through_calls_once_and_then_reads() {
    let (_server, nats) = jetstream().await;
    let method = save().persist(in_users());
    let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let users = nats.rpc().client(config()).kv(&method);
    let called = users.get_or_call(ask("1", "Ada")).header("x-trace", "1").await.unwrap();
    assert!((called.origin(), called.is_stored()) == (Origin::Service, false));
    stored(&service, "save_profile", 1).await;
    let read = users.get_or_call(ask("1", "Grace")).timeout(LONG).await.unwrap();
    assert!(read.is_stored() && read.problem().is_none());
    assert_eq!(read.get(), &profile("1", "Ada"));
    assert_eq!(service.stats().endpoints[0].num_requests, 1);
    // What cannot be read is asked of the service, and that is told.
    nats.kv().bucket("users").set_raw("user.2", "junk").await.unwrap();
    let called = users.get_or_call(ask("2", "Mary")).await.unwrap();
    assert_eq!((called.origin(), called.get().name.as_str()), (Origin::Service, "Mary"));
    assert!(called.problem().is_some());
    // The service's own errors are answers.
    let error = users.get_or_call(ask("3", "fail")).await.unwrap_err();
    assert!(error.is(code::NOT_FOUND) && error.is_remote());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_clients_keep_is_stored_by_reading_through() {
    let (_server, nats) = jetstream().await;
    let method = save().persist(in_users().client_only());
    let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let users = nats.rpc().client(config()).kv(&method);
    assert!(!users.get_or_call(ask("1", "Ada")).await.unwrap().is_stored());
    assert!(users.get_or_call(ask("1", "Grace")).await.unwrap().is_stored());
    assert_eq!(service.stats().endpoints[0].num_requests, 1);
    assert_eq!(kept(&service, "save_profile")["stored"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_service_the_stored_response_answers_and_says_so() {
    let (_server, nats) = jetstream().await;
    let method = save().persist(in_users());
    let client = nats.rpc().client(config());
    let users = client.kv(&method);
    let nobody = users.call_or_get(ask("1", "Ada")).await.unwrap_err();
    assert!(nobody.is_no_responders(), "{nobody}");

    let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let answer = users.call_or_get(ask("1", "Ada")).await.unwrap();
    assert!(!answer.is_stored());
    stored(&service, "save_profile", 1).await;
    let error = users.call_or_get(ask("1", "fail")).await.unwrap_err();
    assert!(error.is(code::NOT_FOUND), "an answer is an answer: {error}");
    service.drain().await.unwrap();

    let answer = users.call_or_get(ask("1", "Grace")).await.unwrap();
    assert!(answer.is_stored() && answer.problem().unwrap().is_no_responders());
    assert_eq!(answer.into_inner(), profile("1", "Ada"));

    // One that does not answer in time.
    let stuck = |_: Request<Ask>| std::future::pending::<Result<Profile, nats_connector::Error>>();
    let endpoint = Endpoint::unary(&method, stuck);
    nats.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let call = users.call_or_get(ask("1", "Grace")).timeout(Duration::from_millis(300));
    let answer = call.await.unwrap();
    assert!(answer.is_stored() && answer.problem().unwrap().is(code::DEADLINE_EXCEEDED));
    let missing = users.call_or_get(ask("2", "Grace")).timeout(Duration::from_millis(300));
    assert!(missing.await.unwrap_err().is(code::DEADLINE_EXCEEDED));
}

/// In one process, with both stores.
#[tokio::test(flavor = "multi_thread")]
async fn in_memory_responses_go_to_both_stores() {
    let nats = Connector::memory();
    let rpc = Rpc::new(nats.pubsub()).with_kv(nats.kv()).with_objects(Objects::memory());
    both(&rpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_responses_go_to_both_stores() {
    let (_server, nats) = jetstream().await;
    both(&nats.rpc()).await;
    let context = async_nats::jetstream::new(nats.client().unwrap());
    let bucket = context.get_object_store("reports").await.unwrap();
    let mut object = bucket.get("reports/1").await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut object, &mut bytes).await.unwrap();
    let users = context.get_key_value("users").await.unwrap();
    assert_eq!(users.get("user.1").await.unwrap().unwrap(), bytes, "the bytes of the reply");
    let info = object.info();
    assert!(info.headers.as_ref().is_none_or(async_nats::HeaderMap::is_empty), "{info:?}");
    assert_eq!((info.chunks, info.description.as_deref()), (3, None));
}

async fn both(rpc: &Rpc) {
    let report = |ask: &Ask| Ok(format!("reports/{}", ask.id));
    let method: Method<Ask, Profile> = Method::json("save_profile");
    let method = method.persist(in_users()).persist(Persist::objects("reports", report));
    let service = serve(rpc, std::slice::from_ref(&method)).await.unwrap();
    let client = rpc.client(config());
    let large = ask("1", &"x".repeat(300_000));
    client.call(&method, large.clone()).await.unwrap();
    stored(&service, "save_profile", 2).await;
    let (users, reports) = (client.kv(&method), client.objects(&method));
    assert_eq!(reports.key(&large).unwrap(), "reports/1");
    let entry = reports.entry("reports/1").await.unwrap().unwrap();
    assert!(entry.revision > 0);
    assert_eq!(Some(entry.value), users.get("user.1").await.unwrap());
    assert_eq!(reports.get("reports/2").await.unwrap(), None);

    let mut changes = reports.watch("reports/*").await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Put { key, .. } if key == "reports/1"));
    assert!(matches!(next(&mut changes).await, Change::Current));
    reports.put("other", &profile("2", "Eve")).await.unwrap();
    reports.put("reports/2", &profile("2", "Ada")).await.unwrap();
    assert!(
        matches!(next(&mut changes).await, Change::Put { key, entry } if key == "reports/2" && entry.value.name == "Ada")
    );
    reports.delete("reports/2").await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Deleted { key, .. } if key == "reports/2"));
    assert_eq!(reports.get("reports/2").await.unwrap(), None);
    let refused = [
        reports.put_if("reports/1", &profile("1", "Eve"), 1).await.map(drop).unwrap_err(),
        reports.history("reports/1").await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    service.drain().await.unwrap();
    let answer = reports.call_or_get(ask("1", "Grace")).await.unwrap();
    assert!(answer.is_stored());
}
