//! Which subjects somebody asks for.

use crate::pubsub::subject;

/// Some patterns of subjects.
#[derive(Debug)]
pub(super) enum Filter {
    All,
    /// One subject without wildcards, which an index finds.
    Subject(String),
    Patterns(Vec<String>),
}

impl Filter {
    pub(super) fn new<S: AsRef<str>>(patterns: &[S]) -> Self {
        match patterns {
            [] => Filter::All,
            _ if patterns.iter().any(|pattern| pattern.as_ref() == ">") => Filter::All,
            [one] if !subject::has_wildcard(one.as_ref()) => {
                Filter::Subject(one.as_ref().to_owned())
            }
            _ => Filter::Patterns(patterns.iter().map(|it| it.as_ref().to_owned()).collect()),
        }
    }

    pub(super) fn covers(&self, subject: &str) -> bool {
        match self {
            Filter::All => true,
            Filter::Subject(one) => one == subject,
            Filter::Patterns(patterns) => {
                patterns.iter().any(|pattern| subject::matches(pattern, subject))
            }
        }
    }

    /// Whether some subject is covered by both.
    pub(super) fn meets(&self, other: &Filter) -> bool {
        let meet = |a: &[String], b: &[String]| {
            a.iter().any(|one| b.iter().any(|other| subject::overlap(one, other)))
        };
        match (self, other) {
            (Filter::All, _) | (_, Filter::All) => true,
            (Filter::Subject(one), other) | (other, Filter::Subject(one)) => other.covers(one),
            (Filter::Patterns(a), Filter::Patterns(b)) => meet(a, b),
        }
    }
}
