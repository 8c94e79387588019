//! Redis' patterns: `*`, `?`, `[a-c]`, `[^a]` and `\`.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

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
    matcher: Option<Regex>,
    literal: String,
    is_literal: bool,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty pattern, for a class that is empty or not closed or whose range is
    /// upside down, for a `\` at the end, and for a pattern of many thousand characters.
    pub fn new(pattern: impl Into<String>) -> Result<Self> {
        let pattern = pattern.into();
        let refuse = |cause: &str| {
            Error::new(ErrorKind::InvalidInput, format!("the pattern is not valid: {cause}"))
                .with("pattern", &pattern)
        };
        if pattern.is_empty() {
            let message = "the pattern is empty; use `*` for all keys";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let matcher = match pattern.as_str() {
            "*" => None,
            pattern => {
                let expression = expression(pattern).map_err(refuse)?;
                Some(Regex::new(&expression).map_err(|_| refuse("it is too long"))?)
            }
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

/// The regular expression that says the same.
fn expression(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::from("(?s)\\A");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                // More of them say the same.
                while chars.next_if_eq(&'*').is_some() {}
                out.push_str(".*");
            }
            '?' => out.push('.'),
            '[' => class(&mut chars, &mut out)?,
            '\\' => push(chars.next().ok_or("a `\\` at the end takes nothing")?, &mut out),
            c => push(c, &mut out),
        }
    }
    out.push_str("\\z");
    Ok(out)
}

/// What is between `[` and `]`.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "a `[` is not closed";
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let member = |chars: &mut Peekable<Chars<'_>>| match chars.next() {
        Some('\\') => chars.next().ok_or(OPEN),
        other => other.ok_or(OPEN),
    };
    let mut is_empty = true;
    while chars.next_if_eq(&']').is_none() {
        let from = member(chars)?;
        let mut ahead = chars.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|to| to != ']');
        let to = if is_range {
            chars.next();
            member(chars)?
        } else {
            from
        };
        if to < from {
            return Err("a range in `[]` is upside down");
        }
        push(from, out);
        out.push('-');
        push(to, out);
        is_empty = false;
    }
    if is_empty {
        return Err("a `[]` is empty");
    }
    out.push(']');
    Ok(())
}

/// A character as itself, also inside a class.
fn push(c: char, out: &mut String) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
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
        let cases: [(&str, &[&str], &[&str]); 18] = [
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
            ("[é-ü]", &["ü", "é"], &["e", "\u{e9}\u{e9}"]),
            ("[^é]", &["e", "😀"], &["é", ""]),
            (r"[a\]-]", &["]", "a", "-"], &["b"]),
            ("[+-]", &["+", "-"], &["[", ","]),
            ("a.c$|&&~~", &["a.c$|&&~~"], &["abc$|&&~~"]),
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
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!((glob.literal_start(), glob.is_literal()), (literal, whole), "{pattern:?}");
        }
    }

    #[test]
    fn broken_patterns_are_refused_and_named() {
        let error = Glob::new("").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("use `*`"), "{error}");
        for pattern in ["[a", "[b-a]", "a\\", "[]", "[^]", "[a\\", "[a-"] {
            let error = Glob::new(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }
}
