//! What a Redis server answers, and what its refusals mean.

use ::redis::{RedisError, Value};
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// What a refusal of the server means to a caller. Nothing was stored.
pub(super) fn refused(error: &RedisError) -> Error {
    let (kind, message) = match error.code().unwrap_or_default() {
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" | "TRYAGAIN" => return cluster(),
        "NOAUTH" | "WRONGPASS" => {
            (ErrorKind::Unauthorized, "Redis refuses the login; check username and password")
        }
        "NOPERM" => (ErrorKind::Unauthorized, "the Redis user lacks a permission; see its ACL"),
        "READONLY" => {
            (ErrorKind::Unavailable, "this Redis server is a replica; connect to the primary")
        }
        "LOADING" => (ErrorKind::Unavailable, "Redis is loading its data; try again later"),
        "BUSY" => (ErrorKind::Unavailable, "Redis is busy with another's script; try again later"),
        "MASTERDOWN" => {
            (ErrorKind::Unavailable, "this Redis replica has lost its primary; try again later")
        }
        "NOREPLICAS" => {
            (ErrorKind::Unavailable, "Redis has too few replicas to write; try again later")
        }
        "MISCONF" => (ErrorKind::Unavailable, "Redis cannot save to disk and refuses to write"),
        "OOM" => {
            (ErrorKind::Unavailable, "Redis is out of memory (maxmemory) and refuses to write")
        }
        "WRONGTYPE" => return wrong_type(),
        // What a command in a script says stands behind the script's own words.
        _ if says(error, "WRONGTYPE") => return wrong_type(),
        _ if says(error, "NOPERM")
            || says(error, "no permission")
            || says(error, "permissions to")
            || says(error, "can't run")
            || says(error, "ACL failure") =>
        {
            (ErrorKind::Unauthorized, "the Redis user lacks a permission; see its ACL")
        }
        _ if says(error, "OOM") => {
            (ErrorKind::Unavailable, "Redis is out of memory (maxmemory) and refuses to write")
        }
        _ if says(error, "READONLY") => {
            (ErrorKind::Unavailable, "this Redis server is a replica; connect to the primary")
        }
        _ if says(error, "MISCONF") => {
            (ErrorKind::Unavailable, "Redis cannot save to disk and refuses to write")
        }
        _ if says(error, "max number of clients") => {
            (ErrorKind::Unavailable, "Redis takes no more connections (maxclients)")
        }
        _ => (ErrorKind::Other, "Redis refuses the command"),
    };
    Error::new(kind, message).with_source(error.clone())
}

/// Whether the server's words have `text` in them.
pub(super) fn says(error: &RedisError, text: &str) -> bool {
    error.to_string().contains(text)
}

pub(super) fn cluster() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "Redis Cluster is not supported; connect to a Redis server that is not part of one",
    )
}

pub(super) fn wrong_type() -> Error {
    Error::new(
        ErrorKind::Decode,
        "what Redis holds under this key is no string; another program wrote it",
    )
}

/// The answer was not what the command gives.
pub(super) fn unexpected() -> Error {
    Error::new(ErrorKind::Other, "Redis gave an answer that the command does not have")
}

/// The value of `name` among pairs.
pub(super) fn field<'a>(pairs: &'a Value, name: &str) -> Option<&'a Value> {
    match pairs {
        Value::Array(items) => items
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some(name))
            .map(|pair| &pair[1]),
        Value::Map(pairs) => {
            let mut pairs = pairs.iter();
            pairs.find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| value)
        }
        _ => None,
    }
}

/// Text, or a number as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(unexpected()),
    }
}

pub(super) fn integer(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(unexpected()),
    }
}

pub(super) fn unsigned(value: &Value) -> Result<u64> {
    u64::try_from(integer(value)?).map_err(|_| unexpected())
}

/// The bytes of a string; `None` where there is none.
pub(super) fn bytes(value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        _ => Err(unexpected()),
    }
}
