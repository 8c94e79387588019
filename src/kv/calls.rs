//! The calls of a handle, each what it does once awaited.

mod bucket;
mod change;
<<<<<<< HEAD
mod counter;
=======
mod list;
>>>>>>> edfa38e (Key-value: keys, glob keys, item count, watch and history over drivers)
mod read;
mod watch;
mod write;

pub use bucket::Provisioned;
<<<<<<< HEAD
pub use counter::Increment;
=======
pub use list::{KeyStream, Keys};
>>>>>>> edfa38e (Key-value: keys, glob keys, item count, watch and history over drivers)
pub use read::{Entry, Read};
pub use watch::{Event, Record, Watch, Watcher};
pub use write::{Replace, Set};
