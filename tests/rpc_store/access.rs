//! Services and clients of users with few permissions.

use nats_connector::rpc::Policy;
use nats_connector::{Connector, ErrorKind, Settings};
use testkit::{Permissions, Server};

use crate::{ask, config, in_users, kept, profile, save, serve, stored};

async fn connect(server: &Server, user: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", server.url());
    let settings = settings.set("NATS.USERNAME", user).set("NATS.PASSWORD", "p");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

/// Who may not ask for buckets nor make them stores in the one that an operator made.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_only_write_stores_and_a_client_that_may_only_read_reads() {
    let serves = ["profiles.>", "$SRV.>", "_INBOX.>"];
    let service = Permissions::default().publish(&["$KV.users.>"]).subscribe(&serves).responses();
    let silent = Permissions::default().publish(&["_INBOX.>"]).subscribe(&serves).responses();
    let reads = ["profiles.>", "$JS.API.DIRECT.GET.KV_users.>"];
    let client = Permissions::default().publish(&reads).subscribe(&["_INBOX.>"]);
    let server = Server::builder()
        .jetstream()
        .user("admin", "p")
        .user_with("service", "p", &service)
        .user_with("silent", "p", &silent)
        .user_with("client", "p", &client)
        .start()
        .await;
    let (admin, service) = (connect(&server, "admin").await, connect(&server, "service").await);
    admin.kv().get_or_create_bucket("users".into()).await.unwrap();

    let method = save().persist(in_users());
    let running = serve(&service.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let store = &running.stores()[0];
    assert!(!store.ready && store.problem.as_deref().unwrap().contains("STREAM.INFO"), "{store:?}");
    let client = connect(&server, "client").await.rpc().client(config());
    client.call(&method, ask("1", "Ada")).await.unwrap();
    stored(&running, "save_profile", 1).await;
    assert_eq!(client.kv(&method).get("user.1").await.unwrap(), Some(profile("1", "Ada")));
    let error = client.kv(&method).put("user.1", &profile("1", "Eve")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    running.drain().await.unwrap();

    // One that may not write either: calls work, and the refused subject is told.
    let silent = connect(&server, "silent").await;
    let running = serve(&silent.rpc(), std::slice::from_ref(&method)).await.unwrap();
    client.call(&method, ask("2", "Ada")).await.unwrap();
    running.drain().await.unwrap();
    let kept = kept(&running, "save_profile");
    assert!(kept["last_error"].as_str().unwrap().contains("$KV.users.user.2"), "{kept}");
    let required = save().persist(in_users().policy(Policy::Required));
    serve(&silent.rpc(), std::slice::from_ref(&required)).await.unwrap();
    let error = client.call(&required, ask("2", "Ada")).await.unwrap_err();
    assert!(error.is("INTERNAL") && error.message().contains("$KV.users.user.2"), "{error}");
}
