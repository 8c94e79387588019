//! Consumers of a stream.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{body, call};
use crate::connector::Link;
use crate::error::Result;

/// Makes a consumer of the messages with these subjects: how many there are for it.
pub(crate) async fn create_consumer(
    link: &Link,
    stream: &str,
    name: &str,
    subjects: &[String],
    mut config: Value,
    deadline: Instant,
) -> Result<u64> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(default)]
        num_pending: u64,
    }
    // With one subject it is part of the call's, so that it can be permitted by it.
    let call_subject = match subjects {
        [subject] => {
            config["filter_subject"] = json!(subject);
            format!("CONSUMER.CREATE.{stream}.{name}.{subject}")
        }
        subjects => {
            config["filter_subjects"] = json!(subjects);
            format!("CONSUMER.CREATE.{stream}.{name}")
        }
    };
    let request = body(&json!({ "stream_name": stream, "config": config }));
    let created: Created = call(link, &call_subject, request, deadline).await?;
    Ok(created.num_pending)
}
