//! Makes Rust services of .proto files for nats-connector, in build scripts, without protoc.
