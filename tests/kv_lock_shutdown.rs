//! A shutdown gives the locks of every store back. One test: a process shuts down once.

use std::time::Duration;

use nats_connector::kv::{Kv, MemoryDriver};
use nats_connector::{Connector, ErrorKind, Settings, shutdown};
use testkit::Server;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_gives_all_locks_back() {
    let server = Server::builder().jetstream().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let own = Kv::new(MemoryDriver::new());
    let locks = [connector.kv().lock("job").await.unwrap(), own.lock("job").await.unwrap()];
    assert!(shutdown::run().await.is_clean());
    for lock in &locks {
        assert!(!lock.is_held());
        timeout(Duration::from_secs(60), lock.lost()).await.unwrap();
    }
    let errors = [connector.kv().lock("job").await, own.lock("job").await];
    for error in errors {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Closed);
    }
    // What the shutdown left is there for others.
    assert!(!own.exists("lock:job").await.unwrap());
    let other = Connector::connect(&settings).await.unwrap();
    assert!(!other.kv().exists("lock:job").consistent().await.unwrap());
}
