//! Key-value follows `register()`. One test: the default is the process's own.

use nats_connector::{ErrorKind, Settings, kv, register_with};
use testkit::Server;

#[tokio::test(flavor = "multi_thread")]
async fn handles_made_before_register_follow_it_through_a_second_connection() {
    let users = kv::bucket("users");
    assert_eq!(users.get_raw("user:1").await.unwrap_err().kind(), ErrorKind::NotRegistered);

    let server = Server::builder().jetstream().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url());
    let settings = settings.set("NATS.DEFAULT_BUCKET", "main").build().unwrap();
    let connector = register_with(settings.clone()).await.unwrap();
    users.set("user:1", &1).await.unwrap();
    kv::set("key", &2).await.unwrap();
    assert_eq!(connector.kv().bucket("main").get::<u32>("key").await.unwrap(), Some(2));
    assert_eq!(kv::drivers(), ["nats"]);

    connector.drain().await;
    assert!(users.get_raw("user:1").await.unwrap_err().is_closed());
    assert!(kv::set("key", &3).await.unwrap_err().is_closed());
    register_with(settings).await.unwrap();
    assert_eq!(users.get::<u32>("user:1").await.unwrap(), Some(1));
    assert_eq!(kv::get::<u32>("key").await.unwrap(), Some(2));
    assert_eq!(kv::drivers(), ["nats"]);
}
