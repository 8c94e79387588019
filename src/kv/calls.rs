//! The calls of a handle, each what it does once awaited.

mod bucket;
mod change;
mod counter;
mod read;
mod write;

pub use bucket::Provisioned;
pub use counter::Increment;
pub use read::{Entry, Read};
pub use write::{Replace, Set};
