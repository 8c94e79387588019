//! What keys and buckets are called in Redis.
//!
//! | | |
//! |---|---|
//! | `user:1` | a key of the root bucket; one that begins with `@` gets one more |
//! | `@sessions:user:1` | a key of the bucket `sessions` |
//! | `@:r:sessions:user:1` | the trace of a key: its revision and what belongs to it |
//! | `@:b:sessions` | a bucket: its latest revision, age and options |
//! | `@:buckets` | the names of all buckets that were made |
//!
//! A bucket's name has neither `@` nor `:` in it and is never empty, so no two of these meet.

use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::Filter;
use crate::kv::{Glob, Key, MAX_KEY_LEN};

/// Begins what is no key of the root bucket.
const MARK: char = '@';

/// The set of buckets.
pub(super) const BUCKETS: &str = "@:buckets";

/// The names of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Names {
    bucket: String,
    is_root: bool,
}

impl Names {
    pub(super) fn new(bucket: &str, root: &str) -> Self {
        Names { bucket: bucket.to_owned(), is_root: bucket == root }
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) fn is_root(&self) -> bool {
        self.is_root
    }

    /// The bucket's hash.
    pub(super) fn options(&self) -> String {
        format!("{MARK}:b:{}", self.bucket)
    }

    /// A key and its trace.
    pub(super) fn pair(&self, key: Key<'_>) -> Result<[String; 2]> {
        let name = joined(key)?;
        Ok([self.stored(&name), self.trace(&name)])
    }

    fn stored(&self, name: &str) -> String {
        match self.is_root {
            true if name.starts_with(MARK) => format!("{MARK}{name}"),
            true => name.to_owned(),
            false => format!("{MARK}{}:{name}", self.bucket),
        }
    }

    fn trace(&self, name: &str) -> String {
        format!("{MARK}:r:{}:{name}", self.bucket)
    }

    /// The key whose stored form this is; `None` for what is no key of the bucket.
    pub(super) fn read<'a>(&self, stored: &'a str) -> Option<&'a str> {
        let name = if self.is_root {
            match stored.strip_prefix(MARK) {
                None => stored,
                Some(name) if name.starts_with(MARK) => name,
                Some(_) => return None,
            }
        } else {
            let rest = stored.strip_prefix(MARK)?.strip_prefix(self.bucket.as_str())?;
            rest.strip_prefix(':')?
        };
        Some(name).filter(|name| !name.is_empty())
    }

    /// The pattern that fits every key that `filter` is about, and some more.
    pub(super) fn pattern(&self, filter: &Filter<'_>) -> String {
        let mut start = String::new();
        if !filter.prefix.is_empty() {
            start.push_str(filter.prefix);
            start.push(':');
        }
        start.push_str(filter.glob.map_or("", Glob::literal_start));
        let mut pattern = escape(&self.stored(&start));
        // Redis compares bytes where `Glob` compares characters: what is more than text is left to it.
        if !filter.glob.is_some_and(Glob::is_literal) {
            pattern.push('*');
        }
        pattern
    }

    /// The pattern that fits every trace.
    pub(super) fn traces(&self) -> String {
        format!("{}*", escape(&self.trace("")))
    }
}

/// A key with its prefix, as users see it in the whole bucket.
pub(super) fn joined(key: Key<'_>) -> Result<String> {
    if key.name().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "the key is empty"));
    }
    let separator = usize::from(!key.prefix().is_empty());
    let length = key.prefix().len() + separator + key.name().len();
    if length > MAX_KEY_LEN {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the key, prefix included, has {length} bytes; the limit is {MAX_KEY_LEN}"),
        ));
    }
    let mut name = String::with_capacity(length);
    if separator == 1 {
        name.push_str(key.prefix());
        name.push(':');
    }
    name.push_str(key.name());
    Ok(name)
}

/// Text as a pattern that fits nothing else.
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = String> {
        // Dense in what could collide.
        prop_oneof!["[@:abr]{1,6}", ".{1,20}", "(@|:|b|r|buckets|default|a){1,5}"]
    }

    proptest! {
        #[test]
        fn keys_are_read_back_and_never_meet(
            one in ("(default|a|b|r|buckets)", key()),
            two in ("(default|a|b|r|buckets)", key()),
        ) {
            let names = |bucket: &str| Names::new(bucket, "default");
            let stored = |(bucket, key): &(String, String)| {
                names(bucket).pair(Key::new("", key)).unwrap()
            };
            let (mut all, mut wanted) = (std::collections::HashSet::new(), 0);
            let distinct = if one == two { vec![&one] } else { vec![&one, &two] };
            for pair in distinct {
                all.extend(stored(pair));
                wanted += 2;
            }
            for bucket in ["default", "a", "b", "r", "buckets"] {
                all.insert(names(bucket).options());
                wanted += 1;
            }
            all.insert(BUCKETS.to_owned());
            prop_assert_eq!(all.len(), wanted + 1);

            let [value, trace] = stored(&one);
            let owner = names(&one.0);
            prop_assert_eq!(owner.read(&value), Some(one.1.as_str()));
            for bucket in ["default", "a", "b", "r", "buckets"] {
                prop_assert_eq!(names(bucket).read(&trace), None);
                prop_assert_eq!(names(bucket).read(BUCKETS), None);
                if bucket != one.0 {
                    prop_assert_eq!(names(bucket).read(&value), None);
                }
            }
        }
    }

    #[test]
    fn stored_names() {
        let root = Names::new("default", "default");
        let bucket = Names::new("sessions", "default");
        let pair = |names: &Names, prefix, name| names.pair(Key::new(prefix, name)).unwrap();
        assert_eq!(pair(&root, "myapp", "user:123")[0], "myapp:user:123");
        assert_eq!(pair(&root, "", "@a")[0], "@@a");
        assert_eq!(pair(&bucket, "", "user:1"), ["@sessions:user:1", "@:r:sessions:user:1"]);
        assert_eq!(root.read("@sessions:user:1"), None);
        assert_eq!(root.read(""), None);
    }

    #[test]
    fn patterns_have_no_wildcards_of_a_users_text() {
        let root = Names::new("default", "default");
        let glob = Glob::new("a\\*b[cd]?").unwrap();
        let filter = Filter { prefix: "x*[y]", glob: Some(&glob) };
        assert_eq!(root.pattern(&filter), "x\\*\\[y\\]:a\\*b*");
        let literal = Glob::new("@a").unwrap();
        assert_eq!(root.pattern(&Filter { prefix: "", glob: Some(&literal) }), "@@a");
        assert_eq!(root.pattern(&Filter { prefix: "", glob: None }), "*");
        let bucket = Names::new("b-1", "default");
        assert_eq!(bucket.pattern(&Filter { prefix: "p", glob: None }), "@b\\-1:p:*");
        assert_eq!(bucket.traces(), "@:r:b\\-1:*");
    }

    #[test]
    fn the_limit_is_the_key_with_its_prefix() {
        let long = "k".repeat(MAX_KEY_LEN);
        assert!(joined(Key::new("", &long)).is_ok());
        assert_eq!(joined(Key::new("p", &long)).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(joined(Key::new("p", "")).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
