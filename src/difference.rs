//! What is not as it was asked for.

use std::fmt;

/// An option of something at the server that is not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The option, by its name in the configuration.
    pub option: &'static str,
    /// What was asked for.
    pub wanted: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, not {}", self.option, self.found, self.wanted)
    }
}

/// Collects differences, option by option.
#[derive(Debug, Default)]
pub(crate) struct Differences(Vec<Difference>);

impl Differences {
    /// Notes a difference if something is wanted and something else, or nothing known, is there.
    pub(crate) fn compare(
        &mut self,
        option: &'static str,
        wanted: Option<String>,
        found: Option<String>,
    ) {
        if let Some(wanted) = wanted {
            let found = found.unwrap_or_else(|| "unknown".to_owned());
            if wanted != found {
                self.0.push(Difference { option, wanted, found });
            }
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Difference> {
        self.0
    }
}
