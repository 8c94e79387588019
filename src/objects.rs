//! Objects: values of any size, in chunks, streamed both ways.

mod config;

pub use config::BucketConfig;
