//! What can go wrong with a stream, in words.

use crate::error::{Error, ErrorKind};
use crate::rpc::{RpcError, code};

fn local(kind: ErrorKind, message: impl Into<std::borrow::Cow<'static, str>>) -> RpcError {
    Error::new(kind, message).operation("rpc stream").into()
}

/// The same error for another who is to know it, without its source.
pub(super) fn copy(error: &RpcError) -> RpcError {
    let copy =
        RpcError::new(error.code().to_owned(), error.message()).with_body(error.body().clone());
    if error.is_remote() { copy.remote(error.headers().cloned()) } else { copy }
}

pub(super) fn gap(expected: u64, came: u64) -> RpcError {
    let what = if came > expected {
        format!("items {expected} to {} of the stream were lost on the way", came - 1)
    } else {
        format!("item {came} of the stream came again, or from another service")
    };
    local(
        ErrorKind::Unavailable,
        format!("{what}: item {came} came where {expected} was next; call again"),
    )
}

/// The end, or a heartbeat, tells of more items than came.
pub(super) fn tail(received: u64, last: Option<u64>) -> RpcError {
    let what = match last {
        Some(last) if last > received => {
            format!("items {} to {last} of the stream were lost on the way", received + 1)
        }
        Some(last) => format!("the stream ended after item {last}, but {received} came"),
        None => format!(
            "the stream ended after item {received}, and messages were dropped at this side \
             meanwhile, so that items may be missing"
        ),
    };
    local(ErrorKind::Unavailable, format!("{what}; call again"))
}

pub(super) fn nobody() -> RpcError {
    Error::no_responders("nobody serves this method: start the service")
        .operation("rpc stream")
        .into()
}

pub(super) fn refused(error: Error) -> RpcError {
    error.operation("rpc stream").into()
}

pub(super) fn service_gone() -> RpcError {
    let message = "the service is gone in the middle of the stream; call again";
    local(ErrorKind::Unavailable, message)
}

pub(super) fn client_gone() -> RpcError {
    RpcError::new(code::CANCELLED, "the caller is gone in the middle of the stream")
}

pub(super) fn lost() -> RpcError {
    let message = "the connection to NATS was lost in the middle of the stream; call again";
    local(ErrorKind::Unavailable, message)
}

pub(super) fn deadline() -> RpcError {
    let message = "the stream is not over within its time limit; give it more by .timeout(), or in \
                   its method";
    local(ErrorKind::Timeout, message)
}

pub(super) fn not_accepted() -> RpcError {
    let message = "the service did not accept the stream in time";
    local(ErrorKind::Timeout, message)
}

pub(super) fn idle(limit: std::time::Duration) -> RpcError {
    let message = format!(
        "the service sent nothing for {}; give it more by .idle_timeout()",
        humantime::format_duration(limit)
    );
    local(ErrorKind::Timeout, message)
}

pub(super) fn overflow(seq: u64, items: usize, bytes: usize) -> RpcError {
    let message = format!(
        "item {seq} of the stream came while {items} ({bytes} bytes) waited to be read, and the \
         other side does not wait: read faster"
    );
    RpcError::new(code::RESOURCE_EXHAUSTED, message)
}

pub(super) fn protocol(problem: &str) -> RpcError {
    RpcError::internal(format!("what came is no message of a stream: {problem}"))
}

pub(super) fn over() -> RpcError {
    RpcError::new(code::CANCELLED, "the service has ended the call already")
}

pub(super) fn drained() -> RpcError {
    let message = "the service shuts down, and the stream was not over in time; call again";
    RpcError::new(code::UNAVAILABLE, message)
}

pub(super) fn intercepted() -> RpcError {
    RpcError::internal("an interceptor answered in place of a stream")
}

pub(super) fn abandoned() -> RpcError {
    RpcError::new(code::CANCELLED, "the caller broke off its stream")
}
