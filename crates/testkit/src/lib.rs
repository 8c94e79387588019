//! Real servers for tests: nats-server, and redis-server.
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//! use testkit::{Proxy, Server, Version, eventually};
//!
//! let mut server = Server::builder().jetstream().start().await;
//! let url = server.url();                        // nats://127.0.0.1:<free port>
//! server.kill().await;                           // SIGKILL
//! server.restart().await;                        // same port, same store, same config
//!
//! let proxy = Proxy::start(server.address());    // TCP in front of it
//! proxy.set_delay(Duration::from_millis(5));     // each way
//! proxy.cut();                                   // resets every connection
//!
//! if !testkit::require(Version::V2_10) {
//!     return; // skipped with a message, or a failure under REQUIRE_ALL=1
//! }
//! let old = Server::builder().version(Version::V2_10).start().await;
//! eventually(Duration::from_secs(10), || async { old.varz().await["connections"] == 0 }).await;
//! # }
//! ```
//!
//! - [`Server`]: one server on a free loopback port with a folder of its own; ends on drop, when
//!   a test panics, and when the test process is killed. What it can be: [`ServerBuilder`].
//! - [`Cluster`]: three of them.
//! - [`Redis`]: one redis-server, in the same way; [`require_redis`] tells whether it is there.
//! - [`Authority`], [`Operator`], [`NKey`]: certificates, `.creds` files and keys for them.
//! - [`Proxy`]: TCP that delays, cuts, black-holes, refuses and counts.
//! - [`Program`]: a program under test, watched by what it prints.
//! - [`NatsPy`]: nats-py, the client of another language.
//! - [`require`] and [`Version`]: which server versions are there.
//! - [`logs::Logs`]: everything that was logged, to prove that a secret was not.
//! - [`eventually`], [`soak`], [`size`]: waiting and test sizes.
//!
//! A server that does not start panics with its log: a test can do nothing without it.
//! Linux and macOS only: processes are ended by signals, through `sh`.

#![cfg(unix)]

mod certificates;
mod cluster;
pub mod fetch;
pub mod logs;
mod operator;
mod program;
mod proxy;
mod python;
mod redis;
mod server;
mod version;
mod wait;

pub use certificates::{Authority, Certificate};
pub use cluster::Cluster;
pub use operator::{NKey, Operator};
pub use program::{Line, Program, cargo};
pub use proxy::Proxy;
pub use python::{NatsPy, nats_py, require_nats_py};
pub use redis::{Redis, RedisBuilder, require_redis};
pub use server::Server;
pub use server::builder::ServerBuilder;
pub use server::config::Permissions;
pub use server::process::signal;
pub use version::{Version, all_required, require};
pub use wait::{eventually, size, soak};
