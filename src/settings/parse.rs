//! From the text of a setting to its type. Every error names key, source and expectation.

use std::collections::HashMap;
use std::time::Duration;

use super::expand::expand;
use super::keys::{self, Key};
use super::source::Origin;

/// A value with where it comes from. An empty text means that the setting is not set.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl Value {
    /// Replaces the placeholders, where it may have some.
    pub(super) fn expand(
        &mut self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        if !self.origin.expands() {
            return Ok(());
        }
        // Cleared after an error, so that the rest of the reading does not report it again.
        let text = std::mem::take(&mut self.text);
        self.text = expand(&text, variable)
            .map_err(|why| format!("the value from {} {why}", self.origin))?;
        Ok(())
    }
}

/// The winning values of one domain, and the problems found while reading them.
pub(super) struct Values {
    domain: String,
    keys: &'static [Key],
    by_key: HashMap<&'static str, Value>,
    problems: Vec<String>,
}

impl Values {
    /// No values yet of the settings `keys`, whose full names begin with `domain`.
    pub(super) fn new(domain: String, keys: &'static [Key]) -> Self {
        Values { domain, keys, by_key: HashMap::new(), problems: Vec::new() }
    }

    /// The setting of a short name, if it is one of these.
    pub(super) fn find(&self, short_name: &str) -> Option<&'static Key> {
        keys::find(self.keys, short_name)
    }

    /// The setting that was probably meant by a short name that is none.
    pub(super) fn nearest(&self, short_name: &str) -> Option<&'static Key> {
        keys::nearest(self.keys, short_name)
    }

    /// The full name of a key, as messages write it.
    pub(super) fn full_name(&self, short_name: &str) -> String {
        format!("{}.{short_name}", self.domain)
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// Sets a value; the one before it is forgotten. An empty text brings the default back.
    pub(super) fn insert(&mut self, short_name: &'static str, value: Value) {
        self.by_key.insert(short_name, value);
    }

    /// Whether no source has a setting of the domain.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether a source names the key, be it with an empty value.
    pub(super) fn is_given(&self, short_name: &str) -> bool {
        self.by_key.contains_key(short_name)
    }

    /// Replaces the placeholders of every value that may have some.
    pub(super) fn expand(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        for key in self.keys {
            let Some(value) = self.by_key.get_mut(key.short_name()) else { continue };
            if let Err(why) = value.expand(variable) {
                let name = self.full_name(key.short_name());
                self.problem(format!("{name}: {why}"));
            }
        }
    }

    /// The value of a key that is set.
    pub(super) fn get(&self, short_name: &str) -> Option<&Value> {
        debug_assert!(self.find(short_name).is_some(), "{short_name} is not a listed setting");
        self.by_key.get(short_name).filter(|value| !value.text.is_empty())
    }

    /// Checks that of two settings both are set, or neither.
    pub(super) fn pair(&mut self, first: &str, second: &str) {
        let (given, missing) = match (self.get(first), self.get(second)) {
            (Some(value), None) => ((first, value), second),
            (None, Some(value)) => ((second, value), first),
            _ => return,
        };
        let problem = format!(
            "{}: set by {}, but {} is not set; set both or neither",
            self.full_name(given.0),
            given.1.origin,
            self.full_name(missing)
        );
        self.problem(problem);
    }

    /// Checks that of two settings at most one is set.
    pub(super) fn exclusive(&mut self, first: &str, second: &str) {
        if let (Some(a), Some(b)) = (self.get(first), self.get(second)) {
            let problem = format!(
                "{} from {} and {} from {} exclude each other; set one of them",
                self.full_name(first),
                a.origin,
                self.full_name(second),
                b.origin
            );
            self.problem(problem);
        }
    }

    /// Checks that settings which name files do not hold what belongs into one. Such a text is not
    /// shown.
    pub(super) fn paths(&mut self) {
        for key in self.keys.iter().filter(|key| key.kind() == keys::PATH) {
            let Some(Value { text, origin }) = self.get(key.short_name()) else { continue };
            if text.contains('\n') || text.contains("-----BEGIN") || is_seed(text) {
                let name = self.full_name(key.short_name());
                let problem = format!(
                    "{name}: the value from {origin} is a key or certificate itself; expected the \
                     path of a file that has it"
                );
                self.problem(problem);
            }
        }
    }

    /// Adds a problem, to be reported with all others.
    pub(super) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Whether nothing wrong was found yet.
    #[cfg(feature = "redis")]
    pub(super) fn is_right(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }

    /// The value of a setting, or its default; `expected` ends the sentence "... is not".
    ///
    /// # Panics
    ///
    /// When the key is not listed or its default is not valid, which a test rules out.
    pub(super) fn read<T>(
        &mut self,
        short_name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_optional(short_name, expected, &parse).unwrap_or_else(|| {
            let default = self.find(short_name).and_then(Key::default).expect("a listed default");
            parse(default).expect("a valid default")
        })
    }

    /// The value of a setting, or nothing when it is not set or not valid. Not for secrets: a text
    /// that is not valid is shown.
    pub(super) fn read_optional<T>(
        &mut self,
        short_name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        debug_assert!(self.find(short_name).is_some_and(|key| !key.is_secret()), "{short_name}");
        let Value { text, origin } = self.get(short_name)?;
        let parsed = parse(text.trim());
        if parsed.is_none() {
            let name = self.full_name(short_name);
            let problem = format!("{name}: {text:?} from {origin} is not {expected}");
            self.problems.push(problem);
        }
        parsed
    }

    pub(super) fn duration(&mut self, short_name: &str) -> Duration {
        // The upper bound keeps every deadline computed from it within what clocks can hold.
        const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
        self.read(
            short_name,
            "a duration above zero and up to a year; expected for example 2s, 500ms, 1m30s",
            |text| {
                humantime::parse_duration(text)
                    .ok()
                    .filter(|duration| !duration.is_zero() && *duration <= LONGEST)
            },
        )
    }

    pub(super) fn boolean(&mut self, short_name: &str) -> bool {
        self.read(short_name, BOOLEAN, truth)
    }

    /// As [`boolean`](Self::boolean) for a setting without a default.
    pub(super) fn boolean_optional(&mut self, short_name: &str) -> Option<bool> {
        self.read_optional(short_name, BOOLEAN, truth)
    }

    /// One of a few words, compared without case.
    pub(super) fn choice<T: Copy>(&mut self, short_name: &str, choices: &[(&str, T)]) -> T {
        self.read(short_name, &one_of(choices), |text| chosen(choices, text))
    }

    /// As [`choice`](Self::choice) for a setting without a default.
    pub(super) fn choice_optional<T: Copy>(
        &mut self,
        short_name: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        self.read_optional(short_name, &one_of(choices), |text| chosen(choices, text))
    }

    /// A text that goes into subjects or names, or `None` when not set.
    pub(super) fn checked(
        &mut self,
        short_name: &str,
        expected: &str,
        valid: fn(&str) -> bool,
    ) -> Option<String> {
        self.read_optional(short_name, expected, |text| valid(text).then(|| text.to_owned()))
    }
}

const BOOLEAN: &str = "a boolean; expected true or false";

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn one_of<T>(choices: &[(&str, T)]) -> String {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    format!("known; expected one of {}", words.join(", "))
}

fn chosen<T: Copy>(choices: &[(&str, T)], text: &str) -> Option<T> {
    let choice = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    choice.map(|(_, value)| *value)
}

/// One part of a subject: what stands between two dots.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

/// A subject without wildcards.
pub(super) fn is_subject(text: &str) -> bool {
    text.split('.').all(is_token)
}

/// What stands before a topic as it is, so that it may end with a dot.
pub(super) fn is_topic_prefix(text: &str) -> bool {
    is_subject(text.strip_suffix('.').unwrap_or(text))
}

/// What bucket names are made of.
pub(super) fn is_bucket(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Whether a text has the form of an NKey seed: `S`, the type, and base32 to 58 characters.
fn is_seed(text: &str) -> bool {
    let text = text.trim();
    text.len() == 58
        && text.starts_with('S')
        && text.chars().all(|c| matches!(c, 'A'..='Z' | '2'..='7'))
}

/// How long something is kept: zero for ever, or what a server accepts.
pub(super) fn lifetime(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    // What a server counts in: nanoseconds in 63 bits.
    const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);
    let time = humantime::parse_duration(text).ok()?;
    (time.is_zero() || (Duration::from_millis(100)..=LONGEST).contains(&time)).then_some(time)
}

/// A number of bytes, zero for no limit.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    i64::try_from(bytes).is_ok().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_their_types() {
        let second = Duration::from_secs(1);
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("1s", Some(second)),
            ("1h 30m", Some(second * 5400)),
            ("99ms", None),
            ("1", None),
            ("300years", None),
        ] {
            assert_eq!(lifetime(text), expected, "{text}");
        }
        for (text, expected) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1 gib", Some(1 << 30)),
            ("8388608TiB", None),
            ("10k", None),
            ("-1", None),
            ("MiB", None),
            ("", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
