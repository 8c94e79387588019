//! The calls of a handle, each what it does once awaited.

mod all;
mod batch;
mod bucket;
mod change;
mod counter;
mod list;
mod load;
mod lock;
mod read;
mod transaction;
mod watch;
mod write;

pub use all::{GetAll, Pairs};
pub use batch::{Many, ReadMany, SetMany};
pub use bucket::Provisioned;
pub use counter::Increment;
pub use list::{KeyStream, Keys};
pub use load::GetOrLoad;
pub use lock::Lock;
pub(in crate::kv) use read::WithEnd;
pub use read::{Entry, Read};
pub use transaction::Transaction;
pub use watch::{Event, Record, Watch, Watcher};
pub use write::{Replace, Set};
