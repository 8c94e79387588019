//! What the server refuses, as errors of this crate.

use crate::connector::capabilities::ApiError;
use crate::error::{Error, ErrorKind};

const NO_SUITABLE_PEERS: u64 = 10005;
const NO_META_LEADER: u64 = 10008;
const STREAMS_LIMIT: u64 = 10027;
const MEMORY_LIMIT: u64 = 10028;
pub(super) const NO_MESSAGE_FOUND: u64 = 10037;
pub(super) const SEQUENCE_NOT_FOUND: u64 = 10043;
const STORAGE_LIMIT: u64 = 10047;
pub(super) const STORE_NOT_MADE: u64 = 10049;
const INVALID_CONFIG: u64 = 10052;
pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
pub(super) const DELETE_FAILED: u64 = 10057;
const NAME_IN_USE: u64 = 10058;
const STREAM_NOT_FOUND: u64 = 10059;
pub(crate) const SUBJECTS_OVERLAP: u64 = 10065;
const UPDATE_REFUSED: u64 = 10069;
const WRONG_LAST_SEQUENCE: u64 = 10071;
const REPLICAS_NEED_A_CLUSTER: u64 = 10074;
pub(crate) const STREAM_FULL: u64 = 10077;
const WORK_QUEUE_UNFILTERED: u64 = 10099;
const WORK_QUEUE_TAKEN: u64 = 10100;
pub(crate) const STREAM_SEALED: u64 = 10109;
const MAX_BYTES_REQUIRED: u64 = 10113;
const MAX_BYTES_LIMIT: u64 = 10122;
const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
const TTL_INVALID: u64 = 10165;
const TTL_DISABLED: u64 = 10166;
const TOO_MANY_REQUESTS: u64 = 10167;
const ATOMIC_DISABLED: u64 = 10174;
const ATOMIC_INCOMPLETE: u64 = 10176;
const ATOMIC_TOO_MANY: u64 = 10210;

/// The context that holds the server's own number of an error.
const ERR_CODE: &str = "err_code";

/// A refusal of the server as this crate's error, with its own number as context.
pub(crate) fn error(failure: &ApiError) -> Error {
    let kind = match failure.err_code {
        STREAM_NOT_FOUND => ErrorKind::NotFound,
        NAME_IN_USE => ErrorKind::AlreadyExists,
        // The same refusal has two numbers, depending on the server and on replication.
        WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT => ErrorKind::Conflict,
        MESSAGE_TOO_LARGE | STREAM_FULL => ErrorKind::TooLarge,
        REPLICAS_NEED_A_CLUSTER | TTL_DISABLED | ATOMIC_DISABLED | STREAM_SEALED => {
            ErrorKind::Unsupported
        }
        INVALID_CONFIG | UPDATE_REFUSED | TTL_INVALID | MAX_BYTES_REQUIRED | MAX_BYTES_LIMIT => {
            ErrorKind::InvalidInput
        }
        TOO_MANY_REQUESTS | ATOMIC_INCOMPLETE | ATOMIC_TOO_MANY | NO_SUITABLE_PEERS => {
            ErrorKind::Unavailable
        }
        _ if failure.code == 503 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    };
    let message = match remedy(failure.err_code) {
        Some(remedy) => format!("{}; {remedy}", failure.description),
        None => failure.description.clone(),
    };
    Error::new(kind, message).with(ERR_CODE, failure.err_code.to_string())
}

/// What to do, where the server's own words do not say.
fn remedy(code: u64) -> Option<&'static str> {
    Some(match code {
        SUBJECTS_OVERLAP => "take other subjects, or add these to the stream that has them",
        WORK_QUEUE_UNFILTERED | WORK_QUEUE_TAKEN => {
            "each message of a work queue is for one durable name: use the same name to share the \
             messages, topics without any in common, or a stream with another retention"
        }
        REPLICAS_NEED_A_CLUSTER => "ask for 1 replica, or connect to a cluster",
        NO_SUITABLE_PEERS => "start more servers of the cluster, or ask for fewer replicas",
        STREAMS_LIMIT => "delete a stream, or raise the account's limit of streams",
        MEMORY_LIMIT => "free memory storage, or raise the limit of the account or server",
        STORAGE_LIMIT => "free file storage, or raise the limit of the account or server",
        STREAM_SEALED => "it is sealed and takes no changes any more",
        MAX_BYTES_REQUIRED => "set max_bytes: the account demands it",
        MAX_BYTES_LIMIT => "set a lower max_bytes, or raise the account's limit",
        _ => return None,
    })
}

/// Whether it is the server's refusal of this number.
pub(crate) fn has_code(error: &Error, code: u64) -> bool {
    error.context(ERR_CODE).is_some_and(|found| found.parse() == Ok(code))
}

/// Whether a message was refused because of the last one that the stream has.
pub(crate) fn is_wrong_last_sequence(code: u64) -> bool {
    matches!(code, WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT)
}

/// Whether a refusal is about this moment, or about options that have changed: nothing was stored,
/// and after a look at the stream the same call may succeed.
pub(crate) fn is_temporary(error: &Error) -> bool {
    let told = error.context(ERR_CODE).is_some();
    told && (error.kind() == ErrorKind::Unavailable || is_switched_off(error))
}

/// Whether a cluster has no leader, or too few servers, at this moment; nothing was done.
pub(super) fn is_between_leaders(error: &Error) -> bool {
    has_code(error, NO_META_LEADER) || has_code(error, NO_SUITABLE_PEERS)
}

/// Whether messages of a batch did not arrive; nothing of it was stored.
pub(crate) fn is_incomplete(error: &Error) -> bool {
    has_code(error, ATOMIC_INCOMPLETE)
}

/// Whether the stream lacks an option that the call needs.
pub(crate) fn is_switched_off(error: &Error) -> bool {
    has_code(error, TTL_DISABLED) || has_code(error, ATOMIC_DISABLED)
}
