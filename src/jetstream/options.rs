//! Options of a stream, as a configuration sets them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Info;

/// Stream options that a configuration sets.
#[derive(Debug, Default)]
pub(crate) struct Options(Vec<Setting>);

/// One option.
#[derive(Debug)]
struct Setting {
    /// Its name in the configuration.
    option: &'static str,
    /// Its name in the API.
    field: &'static str,
    value: Value,
}

impl Options {
    /// Sets a field, if there is a value for it, which the configuration calls `option`.
    pub(crate) fn set(&mut self, option: &'static str, field: &'static str, value: Option<Value>) {
        self.0.extend(value.map(|value| Setting { option, field, value }));
    }

    /// The first option that a stream does not have as it is set here.
    pub(crate) fn first_missing(&self, info: &Info) -> Option<&'static str> {
        self.0.iter().find(|setting| !setting.holds(&info.config)).map(|setting| setting.option)
    }

    /// The first option that a stream, changed from `before` by these, does not have and had not
    /// before: somebody who had read it before has changed it since, or the server left it out.
    pub(crate) fn first_undone(&self, before: &Info, now: &Info) -> Option<&'static str> {
        let undone = self.0.iter().find(|setting| {
            let field = setting.field;
            !setting.holds(&now.config) && before.config.get(field) == now.config.get(field)
        });
        undone.map(|setting| setting.option)
    }

    pub(crate) fn apply(&self, config: &mut Map<String, Value>) {
        for Setting { field, value, .. } in &self.0 {
            config.insert((*field).to_owned(), value.clone());
        }
    }
}

impl Setting {
    /// Servers leave out what has no effect, and leave out in silence what they do not know.
    fn holds(&self, config: &Map<String, Value>) -> bool {
        let value = &self.value;
        match config.get(self.field) {
            Some(found) => found == value,
            None => *value == json!("") || *value == json!("none") || *value == json!(false),
        }
    }
}

/// A duration as the API has it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    // The server's own range is that of i64.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}
