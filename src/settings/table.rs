//! The effective settings, for people to read.

use std::fmt;

use super::keys;
use super::parse::Values;
use super::secret::REDACTED;

/// The effective value and the source of every setting, one a line; secrets are `***`.
///
/// ```
/// use nats_connector::Settings;
///
/// let settings = Settings::builder()
///     .set("NATS.SERVER", "nats://cluster.example")
///     .set("NATS.TOKEN", "s3cr3t")
///     .build()?;
/// let table = settings.table().to_string();
/// assert!(table.contains("NATS.SERVER = nats://cluster.example:4222  (code)"));
/// assert!(table.contains("NATS.RECONNECT_WAIT = 2s  (default)"));
/// assert!(table.contains("NATS.TOKEN = ***  (code)"));
/// # Ok::<(), nats_connector::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table(Vec<Row>);

#[derive(Debug, Clone)]
struct Row {
    name: String,
    value: String,
    source: String,
}

impl Table {
    /// `servers` stands for the server list, whose text may have userinfo.
    pub(super) fn new(values: &Values, servers: &str) -> Self {
        let rows = keys::KEYS.iter().map(|key| {
            let value = values.get(key.short_name());
            Row {
                name: values.full_name(key.short_name()),
                value: match value {
                    _ if key.short_name() == "SERVER" => servers.to_owned(),
                    Some(_) if key.is_secret() => REDACTED.to_owned(),
                    Some(value) => value.text.trim().escape_debug().to_string(),
                    None => key.default().unwrap_or_default().to_owned(),
                },
                source: value.map_or("default".to_owned(), |value| value.origin.to_string()),
            }
        });
        Table(rows.collect())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Row { name, value, source }) in self.0.iter().enumerate() {
            let end = if i + 1 == self.0.len() { "" } else { "\n" };
            write!(f, "{name} = {value}  ({source}){end}")?;
        }
        Ok(())
    }
}
