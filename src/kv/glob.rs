//! Redis' patterns: `*`, `?`, `[a-c]`, `[^a]` and `\`.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, ErrorKind, Result};

/// A pattern of keys, as Redis writes them: `*` is any text (also none, and across every separator),
/// `?` any one character, `[abc]` and `[a-c]` one of these, `[^a]` any other than these, and `\`
/// takes what follows as it is.
///
/// It is matched against whole keys as users wrote them, without their prefix.
#[derive(Clone)]
pub struct Glob {
    pattern: String,
    /// None where everything matches.
    matcher: Option<GlobMatcher>,
    literal: String,
    is_literal: bool,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a class that is not closed or whose range is upside down, and for a `\`
    /// at the end.
    pub fn new(pattern: impl Into<String>) -> Result<Self> {
        let pattern = pattern.into();
        let refuse = |cause: String| {
            Error::new(ErrorKind::InvalidInput, format!("the pattern is not valid: {cause}"))
                .with("pattern", &pattern)
        };
        let matcher = if pattern == "*" {
            None
        } else {
            let glob = GlobBuilder::new(&without_alternatives(&pattern))
                .literal_separator(false)
                .backslash_escape(true)
                .build()
                .map_err(|error| refuse(error.kind().to_string()))?;
            Some(glob.compile_matcher())
        };
        let (literal, is_literal) = literal_start(&pattern);
        Ok(Glob { matcher, literal, is_literal, pattern })
    }

    /// Whether `key` as a whole fits the pattern.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| matcher.is_match(key))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// The text that every key that fits begins with: what stands before the first wildcard.
    #[must_use]
    pub fn literal_start(&self) -> &str {
        &self.literal
    }

    /// Whether it has no wildcards, so that only [`literal_start`](Self::literal_start) itself
    /// fits.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.is_literal
    }
}

/// Redis has no `{a,b}`.
fn without_alternatives(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push('\\');
                out.extend(chars.next());
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '{' | '}' if !in_class => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

fn literal_start(pattern: &str) -> (String, bool) {
    let mut literal = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return (literal, false),
            '\\' => literal.extend(chars.next()),
            _ => literal.push(c),
        }
    }
    (literal, true)
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Glob").field(&self.pattern).finish()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_redis_does() {
        let cases: [(&str, &[&str], &[&str]); 14] = [
            ("*", &["", "a", "a:b/c.d", "\n"], &[]),
            ("user:*", &["user:", "user:1", "user:1:name", "user:a/b.c"], &["user", "xuser:1"]),
            ("*:name", &["user:1:name", ":name"], &["name", "user:1:names"]),
            ("h?llo", &["hello", "hüllo", "h/llo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "h[ae]llo"]),
            ("h[a-c]llo", &["hallo", "hcllo"], &["hdllo"]),
            ("h[^e]llo", &["hallo", "h.llo"], &["hello"]),
            (r"a\*b", &["a*b"], &["axb", r"a\*b"]),
            (r"a\[b", &["a[b"], &["a"]),
            ("{a,b}", &["{a,b}"], &["a", "b"]),
            ("[{]x", &["{x"], &["x", "\\x"]),
            ("a**b", &["ab", "axyb", "a/b"], &["a"]),
            ("a/**/b", &["a//b", "a/x/b", "a/x/y/b"], &["a/b"]),
            ("", &[""], &["a"]),
        ];
        for (pattern, fits, others) in cases {
            let glob = Glob::new(pattern).unwrap();
            for key in fits {
                assert!(glob.matches(key), "{pattern:?} fits {key:?}");
            }
            for key in others {
                assert!(!glob.matches(key), "{pattern:?} does not fit {key:?}");
            }
        }
    }

    #[test]
    fn what_is_literal() {
        for (pattern, literal, whole) in [
            ("user:*", "user:", false),
            (r"a\*b", "a*b", true),
            ("plain", "plain", true),
            ("?", "", false),
            ("", "", true),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!((glob.literal_start(), glob.is_literal()), (literal, whole), "{pattern:?}");
        }
    }

    #[test]
    fn broken_patterns_are_refused_and_named() {
        for pattern in ["[a", "[b-a]", "a\\"] {
            let error = Glob::new(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }
}
