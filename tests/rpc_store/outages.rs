//! Without a store the calls work, and what cannot be done says why.

use nats_connector::rpc::{Persist, Policy, Rpc, code};
use nats_connector::{Connector, ErrorKind};
use testkit::{Proxy, Server};

use crate::{Ask, LONG, Lab, ask, config, connect, in_users, jetstream, kept, save, serve, stored};

#[tokio::test(flavor = "multi_thread")]
async fn without_jetstream_calls_work_and_the_stores_say_why_they_cannot() {
    let server = Server::builder().start().await;
    let nats = connect(server.url()).await;
    let method = save().persist(in_users());
    let required = nats_connector::rpc::Method::json("require");
    let required = required.persist(in_users().policy(Policy::Required));
    let service = serve(&nats.rpc(), &[method.clone(), required.clone()]).await.unwrap();
    let store = &service.stores()[0];
    assert!(!store.ready);
    assert!(store.problem.as_deref().unwrap().contains("JetStream"), "{store:?}");

    let client = nats.rpc().client(config());
    assert_eq!(client.call(&method, ask("1", "Ada")).await.unwrap().get().name, "Ada");
    testkit::eventually(LONG, || async { kept(&service, "save_profile")["failed"] == 1 }).await;
    let last = kept(&service, "save_profile")["last_error"].to_string();
    assert!(last.contains("JetStream") && last.contains("bucket=users"), "{last}");

    let error = client.call(&required, ask("1", "Ada")).await.unwrap_err();
    assert!(error.is(code::UNAVAILABLE), "{error}");
    assert!(error.message().contains("JetStream") && error.message().contains("users"), "{error}");

    let report = |ask: &Ask| Ok(format!("report/{}", ask.id));
    let files = save().persist(Persist::objects("files", report));
    let (users, files) = (client.kv(&method), client.objects(&files));
    let errors = [
        files.get("report/1").await.map(drop).unwrap_err(),
        files.put("report/1", &crate::profile("1", "Ada")).await.map(drop).unwrap_err(),
        users.get("user.1").await.map(drop).unwrap_err(),
        users.put("user.1", &crate::profile("1", "Ada")).await.map(drop).unwrap_err(),
        users.watch("*").await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("JetStream"), "{error}");
        assert_eq!(error.context("method"), Some("save_profile"));
    }
}

/// The store is not there when the service starts: its bucket is made with a later write.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_could_not_be_made_is_made_later() {
    let (server, near) = jetstream().await;
    let proxy = Proxy::start(server.address());
    let far = connect(proxy.url()).await;
    proxy.refuse();
    proxy.cut();
    testkit::eventually(LONG, || async { proxy.open() == 0 }).await;
    let rpc = Rpc::new(near.pubsub()).with_kv(far.rpc().kv().unwrap().clone());
    let method = save().persist(in_users());
    let service = serve(&rpc, std::slice::from_ref(&method)).await.unwrap();
    assert!(!service.stores()[0].ready);
    let client = near.rpc().client(config());
    client.call(&method, ask("1", "Ada")).timeout(LONG).await.unwrap();
    assert_eq!(near.kv().bucket("users").bucket_status().await.unwrap(), None);
    proxy.resume();
    testkit::eventually(LONG, || async {
        client.call(&method, ask("1", "Grace")).timeout(LONG).await.unwrap();
        client.kv(&method).get("user.1").await.unwrap().is_some()
    })
    .await;
    assert!(service.stores()[0].ready && service.stores()[0].problem.is_none());
}

/// The server is killed between reply and write, and comes back: calls go on, and so does storing.
#[tokio::test(flavor = "multi_thread")]
async fn jetstream_that_is_lost_in_the_middle_comes_back() {
    let (mut server, store) = jetstream().await;
    let calls_server = Server::builder().start().await;
    let calls = connect(calls_server.url()).await;
    let rpc = Rpc::new(calls.pubsub()).with_kv(store.rpc().kv().unwrap().clone());
    let method = save().persist(in_users());
    let service = serve(&rpc, std::slice::from_ref(&method)).await.unwrap();
    let client = rpc.client(config());
    client.call(&method, ask("1", "Ada")).await.unwrap();
    stored(&service, "save_profile", 1).await;
    server.kill().await;
    client.call(&method, ask("1", "Grace")).timeout(LONG).await.unwrap();
    assert_eq!(client.kv(&method).call_or_get(ask("1", "Eve")).await.unwrap().get().name, "Eve");
    server.restart().await;
    testkit::eventually(LONG, || async {
        client.call(&method, ask("1", "Mary")).timeout(LONG).await.unwrap();
        client
            .kv(&method)
            .get("user.1")
            .await
            .is_ok_and(|it| it.is_some_and(|it| it.name == "Mary"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_what_is_still_to_be_stored() {
    let lab = Lab::start().await;
    let method = save().persist(in_users().timeout(LONG));
    let service = serve(&lab.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let key = |n: u32| format!("user.{n}");
    lab.proxy.black_hole();
    for n in 0..10 {
        lab.client().call(&method, ask(&n.to_string(), "Ada")).timeout(LONG).await.unwrap();
    }
    let drained = tokio::spawn(service.drain().timeout(LONG));
    testkit::eventually(LONG, || async { kept(&service, "save_profile")["pending"] == 10 }).await;
    let begun = service.drain().timeout(std::time::Duration::from_millis(300)).await;
    assert_eq!(begun.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(!drained.is_finished());
    lab.proxy.resume();
    drained.await.unwrap().unwrap();
    for n in 0..10 {
        assert!(lab.client().kv(&method).get(key(n)).await.unwrap().is_some());
    }

    // The same with the whole connector, which closes after that.
    let (server, nats) = jetstream().await;
    serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let caller = connect(server.url()).await;
    let client = caller.rpc().client(config());
    let calls = (0..200).map(|n| client.call(&method, ask(&n.to_string(), "Ada")).timeout(LONG));
    for reply in futures::future::join_all(calls).await {
        reply.unwrap();
    }
    assert!(nats.drain().await.is_clean());
    for n in 0..200 {
        assert!(client.kv(&method).get(key(n)).await.unwrap().is_some(), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_without_a_store_says_so() {
    let nats = Connector::memory();
    let rpc = Rpc::new(nats.pubsub());
    let method = save().persist(in_users().policy(Policy::Required));
    let service = serve(&rpc, std::slice::from_ref(&method)).await.unwrap();
    assert!(service.stores()[0].problem.as_deref().unwrap().contains("with_kv"));
    let client = rpc.client(config());
    let error = client.call(&method, ask("1", "Ada")).await.unwrap_err();
    assert!(error.is(code::INTERNAL) && error.message().contains("with_kv"), "{error}");
    let error = client.kv(&method).get("user.1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = client.objects(&method).get("user.1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("Persist::objects"), "{error}");
}
