//! The calls of a handle, each what it does once awaited.

mod bucket;
mod change;
mod get;
mod info;
mod put;
mod reader;

pub use bucket::Provisioned;
pub use change::{LinkTo, Update};
pub use get::{AsBytes, AsReader, AsValue, AsWriter, Get};
pub use info::{Info, Listing, Watcher};
pub use put::Put;
pub use reader::ObjectReader;
