//! Where a setting comes from.

use std::fmt;

/// The source of one value, as errors and the table name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `SettingsBuilder::set`.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Code => f.write_str("code"),
        }
    }
}

/// A key in the form in which keys compare: without case, and `.`, `_` and `-` alike.
pub(super) fn normal(key: &str) -> String {
    key.chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c.to_ascii_uppercase() }).collect()
}
