//! Passwords show nowhere: not in errors, not in `Debug` forms, not in logs.

use std::fmt::Write as _;
use std::time::Duration;

use nats_connector::Secret;
use nats_connector::kv::{Kv, RedisConfig, RedisDriver};
use testkit::{Authority, Redis, logs::Logs, require_redis};

const RIGHT: &str = "r1ght-s3cr3t";
const WRONG: &str = "wr0ng-s3cr3t";

#[tokio::test]
async fn show_nowhere() {
    if !require_redis() {
        return;
    }
    // Of all tests here: what is logged on another thread is never missed.
    let logs = Logs::global();
    let authority = Authority::new();
    let mut plain = Redis::builder().user("ann", RIGHT, "~* +@all").start().await;
    let tls = Redis::builder().tls(&authority.server()).password(RIGHT).start().await;
    let with = |url: String, userinfo: &str| url.replace("://", &format!("://{userinfo}@"));
    let url = plain.url();
    let configs = [
        RedisConfig::new(&url).username("ann").password(Secret::new(RIGHT)),
        RedisConfig::new(&url).username("ann").password(Secret::new(WRONG)),
        RedisConfig::new(with(url.clone(), &format!("ann:{RIGHT}"))),
        RedisConfig::new(with(url.clone(), &format!("ann:{WRONG}"))),
        RedisConfig::new(with(url.clone(), &format!("ann:{RIGHT}"))).db(99),
        RedisConfig::new(with(url.clone(), WRONG)),
        RedisConfig::new(format!("redis://ann:{WRONG}@127.0.0.1:x")),
        RedisConfig::new(format!("redis://ann:{RIGHT}@127.0.0.1:1/9/{WRONG}")),
        RedisConfig::new(format!("redis://ann:{WRONG}@no-such-host.invalid")),
        RedisConfig::new(tls.url()).tls_ca(authority.file()).password(Secret::new(RIGHT)),
        RedisConfig::new(tls.url()).tls_ca(authority.file()).password(Secret::new(WRONG)),
        RedisConfig::new(tls.url()).password(Secret::new(RIGHT)),
    ];
    let mut printed = String::new();
    let mut connected = Vec::new();
    for config in configs {
        writeln!(printed, "{config:?} {:?}", config.check()).unwrap();
        let config = config.connect_timeout(Duration::from_secs(5));
        match RedisDriver::connect(config).await {
            Ok(driver) => connected.push(driver),
            Err(error) => writeln!(printed, "{error} {error:?} {error:#?}").unwrap(),
        }
    }
    assert_eq!(connected.len(), 3);
    plain.kill().await;
    for driver in connected {
        writeln!(printed, "{driver:?}").unwrap();
        let kv = Kv::new(driver);
        if let Err(error) = kv.set("key", &1).await {
            writeln!(printed, "{error} {error:?} {kv:?}").unwrap();
        }
    }
    let logged = logs.text();
    // What is there proves that what is absent was looked for.
    assert!(printed.contains("ann") && printed.contains("***"), "{printed}");
    assert!(logged.contains("connected to Redis"), "{logged}");
    for secret in [RIGHT, WRONG, "s3cr3t"] {
        for (place, text) in [("printed", &printed), ("logged", &logged)] {
            let line = text.lines().find(|line| line.contains(secret));
            let line = line.map(|line| line.replace("s3cr3t", "<SECRET>"));
            assert_eq!(line, None, "a secret was {place}");
        }
    }
}
