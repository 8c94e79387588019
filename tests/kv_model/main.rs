//! Any sequence of operations gives the same answers on every driver: those of a simple model.
//!
//! NATS and Redis get fewer sequences than memory in a normal run, and 1,000 in a soak.

mod model;
mod operations;
mod real;

use model::{Answer, Model};
use nats_connector::kv::{Capabilities, Kv, RedisConfig, RedisDriver};
use nats_connector::{Connector, Settings};
use operations::{Operation, everything, sequence};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use real::Real;
use testkit::{Redis, Server, Version, require, require_redis, size, soak};
use tokio::runtime::Runtime;

/// How many values of a key the second bucket keeps.
const HISTORY: u8 = 3;

#[test]
fn memory() {
    let kv = Kv::memory();
    hold(&Runtime::new().unwrap(), &kv, 1000);
}

#[test]
fn nats() {
    if !require(Version::V2_15) {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let (_server, connector) = runtime.block_on(nats_on(Version::V2_15));
    hold(&runtime, &connector.kv(), size(80, 1000));
}

/// The oldest server that claims fewer operations.
#[test]
fn nats_of_2_10() {
    if !require(Version::V2_10) {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let (_server, connector) = runtime.block_on(nats_on(Version::V2_10));
    hold(&runtime, &connector.kv(), size(40, 1000));
}

#[test]
fn redis() {
    if !require_redis() {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let (_server, kv) = runtime.block_on(async {
        let server = Redis::builder().start().await;
        let driver = RedisDriver::connect(RedisConfig::new(server.url())).await.unwrap();
        (server, Kv::new(driver))
    });
    hold(&runtime, &kv, size(150, 1000));
}

async fn nats_on(version: Version) -> (Server, Connector) {
    let server = Server::builder().version(version).jetstream().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    (server, connector)
}

/// Runs sequences until one is answered otherwise than the model does, and shrinks that one.
fn hold(runtime: &Runtime, kv: &Kv, cases: usize) {
    let cases = u32::try_from(cases).unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // A normal run is the same each time; a soak looks further.
    let mut runner = if soak() {
        TestRunner::new(config)
    } else {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        TestRunner::new_with_rng(config, rng)
    };
    let claims: Capabilities = runtime.block_on(kv.capabilities()).unwrap();
    let sequences = sequence(claims.transactions, claims.history);
    let run = runner.run(&sequences, |operations| {
        runtime.block_on(check(kv, &claims, &operations)).map_err(TestCaseError::fail)
    });
    match run {
        Ok(()) => {}
        Err(TestError::Fail(reason, operations)) => {
            let operations: Vec<String> = operations.iter().map(|it| format!("{it:?}")).collect();
            panic!("{reason}\nafter:\n{}", operations.join("\n"))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs one sequence on the model and on new buckets; what differs.
async fn check(kv: &Kv, claims: &Capabilities, operations: &[Operation]) -> Result<(), String> {
    let history = if claims.history { HISTORY } else { 1 };
    let mut real = Real::new(kv, history).await;
    let mut model = Model::new(usize::from(history));
    let mut result = Ok(());
    // At the end everything is looked at.
    let last = everything();
    for (n, operation) in operations.iter().chain(&last).enumerate() {
        let needs_ttl = matches!(operation, Operation::SetForLong(..) | Operation::Touch(_));
        // A delete of nothing leaves a marker in a transaction on NATS, and nothing elsewhere.
        if (needs_ttl && !claims.ttl) || model.deletes_nothing_with_others(operation) {
            continue;
        }
        let found = real.run(operation).await;
        let expected = model.apply(operation, |slot| real.name(slot));
        if found != Ok(expected.clone()) {
            result = Err(format!("{n}: {operation:?}: found {found:?}, expected {expected:?}"));
            break;
        }
    }
    real.delete().await;
    result
}

/// An answer, or what is wrong with its revisions.
type Checked = Result<Answer, String>;
