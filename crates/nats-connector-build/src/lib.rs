//! Makes Rust services of .proto files for nats-connector, in build scripts, without protoc.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), nats_connector_build::Error> {
//!     nats_connector_build::Builder::new().includes(["proto"]).compile(&["order/v1/service.proto"])
//! }
//! ```
//!
//! ```rs
//! // src/lib.rs: proto::order::v1::{OrderService, OrderServiceServer, OrderServiceClient}
//! pub mod proto {
//!     nats_connector::include_proto!();
//! }
//! ```
//!
//! For each service of the files, in the module of its package:
//!
//! | | |
//! |---|---|
//! | `OrderService` | a trait with a function for each method |
//! | `OrderServiceServer` | what serves it |
//! | `OrderServiceClient` | what calls it, and reads what it keeps |
//! | `order_service` | the module of these, and of the description that both sides share: `NAME`, `ENDPOINTS`, `config()`, `methods`, `keys` of what is kept, `errors` of its own |
//!
//! The options of `natsmicro/options.proto`, which is built in, say where a service is reached, how
//! its messages are written, and which responses are kept where. They are those of
//! protoc-gen-nats-micro, and so are subjects and bytes: one .proto file serves both.
//!
//! A key template is text with fields of the request in braces, `order.{customer.id}.{number}`:
//! strings, integers, booleans, and enums, which stand by their names. `{{` and `}}` are braces
//! themselves. What is wrong in a file is an error with its line.

mod builder;
mod check;
mod error;
mod generate;
mod model;
mod names;
mod options;
mod sources;
mod template;
mod types;

pub use builder::Builder;
pub use error::{Error, Problem};
/// For [`Builder::config`].
pub use prost_build;

/// Compiles files that are in these directories, everything else left at its default.
///
/// # Errors
/// Everything that is wrong with the files, each with its place.
pub fn compile_protos(
    files: &[impl AsRef<std::path::Path>],
    includes: &[impl AsRef<std::path::Path>],
) -> Result<(), Error> {
    Builder::new().includes(includes.iter().map(|it| it.as_ref())).compile(files)
}
