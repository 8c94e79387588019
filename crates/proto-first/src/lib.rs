//! Services made of the .proto files beside: those of the examples, and a corpus that covers the
//! protobuf language, all of it compiled.

#[allow(missing_docs, reason = "messages have the comments that their files have")]
#[allow(clippy::module_inception, reason = "a message may be called as its package is")]
pub mod proto {
    nats_connector::include_proto!();
}
