//! Key-value in Redis, beyond what every driver does (tests/kv_conformance.rs): connecting, outages,
//! data of other programs, and what never shows.

mod connect;
mod contended;
mod foreign;
mod outages;
mod secrets;

use std::time::Duration;

use nats_connector::kv::{Kv, RedisConfig, RedisDriver};
use redis::aio::MultiplexedConnection;
use testkit::Redis;

/// How long anything may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

async fn connect(config: RedisConfig) -> (RedisDriver, Kv) {
    let driver = RedisDriver::connect(config).await.unwrap();
    (driver.clone(), Kv::new(driver))
}

/// A handle on a new server's root bucket.
async fn start() -> (Redis, Kv) {
    let server = Redis::builder().start().await;
    let (_, kv) = connect(RedisConfig::new(server.url())).await;
    (server, kv)
}

/// Another program's connection.
async fn other_program(server: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// What a command of another program gives.
async fn ask<T: redis::FromRedisValue>(con: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(con).await.unwrap()
}
