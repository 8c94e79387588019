//! The keys that a filter asks for, as subjects and back.

use crate::error::Result;
use crate::kv::driver::Filter;
use crate::kv::nats::bucket::Bucket;
use crate::kv::{Glob, Key, KeyCodec};

/// The part of a bucket that a filter is about.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// What the subjects of its keys begin with.
    space: String,
    codec: KeyCodec,
    /// Subjects that cover every key of the filter: the server's own filter takes whole tokens only,
    /// so they may cover more.
    pub(super) subjects: Vec<String>,
}

impl Names {
    /// Where the server takes no more than one subject, `several` is false.
    pub(super) fn new(bucket: &Bucket, filter: Filter<'_>, several: bool) -> Result<Self> {
        let codec = bucket.codec;
        let mut space = bucket.subjects.clone();
        if !filter.prefix.is_empty() {
            // The prefix is a key's first part, and encoded as a key of its own.
            codec.encode(Key::new("", filter.prefix), &mut space)?;
            space.push('.');
        }
        let subjects = filter.glob.and_then(|glob| narrow(codec, &space, glob, several));
        let subjects = subjects.unwrap_or_else(|| vec![format!("{space}>")]);
        Ok(Names { space, codec, subjects })
    }

    /// Where `name` is stored.
    pub(super) fn subject(&self, name: &str) -> Result<String> {
        let mut subject = self.space.clone();
        self.codec.encode(Key::new("", name), &mut subject)?;
        Ok(subject)
    }

    /// The key that is stored under `subject`, if it belongs here.
    pub(super) fn name(&self, subject: &str) -> Option<String> {
        let stored = subject.strip_prefix(self.space.as_str()).filter(|name| !name.is_empty())?;
        Some(self.codec.decode(stored).into_owned())
    }
}

/// Subjects for what a glob says for certain; none where that is nothing.
fn narrow(codec: KeyCodec, space: &str, glob: &Glob, several: bool) -> Option<Vec<String>> {
    let literal = glob.literal_start();
    let exact = || {
        let mut subject = space.to_owned();
        codec.encode(Key::new("", literal), &mut subject).ok().map(|()| subject)
    };
    if glob.is_literal() {
        return Some(vec![exact()?]);
    }
    let separator = if codec == KeyCodec::Path { ':' } else { '.' };
    let end = literal.rfind(separator)?;
    let is_plain = |token: &str| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_".contains(&b))
    };
    let tokens: Vec<&str> = literal[..end].split(separator).collect();
    if !tokens.iter().all(|token| is_plain(token)) {
        return None;
    }
    let mut subjects = vec![format!("{space}{}.>", tokens.join("."))];
    // The key that ends where the wildcard begins has its last separator escaped: it is none of the
    // others' token.
    if end + separator.len_utf8() == literal.len() && codec != KeyCodec::Raw {
        if !several {
            return None;
        }
        subjects.push(exact()?);
    }
    Some(subjects)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [KeyCodec; 3] = [KeyCodec::Escape, KeyCodec::Path, KeyCodec::Raw];

    fn names(codec: KeyCodec, prefix: &str, glob: &str, several: bool) -> Names {
        let glob = Glob::new(glob).unwrap();
        let filter = Filter { prefix, glob: Some(&glob) };
        Names::new(&Bucket::named("b", codec), filter, several).unwrap()
    }

    #[test]
    fn whole_tokens_are_the_servers() {
        use KeyCodec::{Escape, Path, Raw};
        let cases: [(KeyCodec, &str, &str, &[&str]); 15] = [
            (Escape, "", "*", &["$KV.b.>"]),
            (Escape, "app", "*", &["$KV.b.app.>"]),
            (Escape, "my app*", "*", &["$KV.b.my=20app=2A.>"]),
            (Escape, "a.b", "x*", &["$KV.b.a.b.>"]),
            (Escape, "", "user.*", &["$KV.b.user.>", "$KV.b.user=2E"]),
            (Escape, "", "user.1*", &["$KV.b.user.>"]),
            (Escape, "p", "a.b.c?", &["$KV.b.p.a.b.>"]),
            (Escape, "", "user:*", &["$KV.b.>"]),
            (Escape, "", "a=b.x*", &["$KV.b.>"]),
            (Escape, "", "a..x*", &["$KV.b.>"]),
            (Escape, "", "user:1", &["$KV.b.user=3A1"]),
            (Path, "", "user:*", &["$KV.b.user.>", "$KV.b.user=2E"]),
            (Path, "app", "user:1", &["$KV.b.app.user.1"]),
            (Raw, "", "user.*", &["$KV.b.user.>"]),
            (Raw, "", "user:*", &["$KV.b.>"]),
        ];
        for (codec, prefix, glob, subjects) in cases {
            assert_eq!(names(codec, prefix, glob, true).subjects, subjects, "{codec} {glob}");
        }
        assert_eq!(names(Path, "", "user:*", false).subjects, ["$KV.b.>"]);
    }

    fn covers(subject: &str, stored: &str) -> bool {
        match subject.strip_suffix('>') {
            Some(start) => stored.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
            None => subject == stored,
        }
    }

    proptest! {
        #[test]
        fn no_key_that_fits_is_left_out(
            key in "[ab.:=0-9*]{1,7}",
            start in 0_usize..8,
            prefix in "[a.:]{0,2}",
            several: bool,
        ) {
            let start: String = key.chars().take(start).collect();
            let literal: String = start.chars().flat_map(|c| ['\\', c]).collect();
            for codec in CODECS {
                let mut stored = "$KV.b.".to_owned();
                if codec.encode(Key::new(&prefix, &key), &mut stored).is_err() {
                    continue;
                }
                for glob in [format!("{literal}*"), key.chars().flat_map(|c| ['\\', c]).collect()] {
                    let names = names(codec, &prefix, &glob, several);
                    prop_assert!(
                        names.subjects.iter().any(|subject| covers(subject, &stored)),
                        "{codec} {glob} {stored} {:?}", names.subjects
                    );
                    prop_assert_eq!(names.name(&stored), Some(key.clone()));
                }
            }
        }
    }
}
