//! The nats-server versions that tests run on, and what to do when one is absent.

use std::fmt;

use crate::fetch;

/// A nats-server that tests can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// 2.15.1, on which everything is tested.
    #[default]
    V2_15,
    /// 2.12.8.
    V2_12,
    /// 2.11.11.
    V2_11,
    /// 2.10.26.
    V2_10,
    /// The 2.9 that Debian 12 packages. It is taken from `PATH`, never fetched.
    Debian29,
}

impl Version {
    /// Every version that can be fetched.
    pub const FETCHED: [Version; 4] =
        [Version::V2_15, Version::V2_12, Version::V2_11, Version::V2_10];

    /// The exact release, such as `2.15.1`.
    #[must_use]
    pub fn release(self) -> &'static str {
        match self {
            Version::V2_15 => "2.15.1",
            Version::V2_12 => "2.12.8",
            Version::V2_11 => "2.11.11",
            Version::V2_10 => "2.10.26",
            Version::Debian29 => "2.9",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats-server {}", self.release())
    }
}

/// Whether `version` can be run here, for a test to return early when it cannot.
///
/// When it cannot, a message on standard error says what is skipped and how to get it.
///
/// # Panics
///
/// When `REQUIRE_ALL=1` is set and the version is one that pip can bring: then nothing may be
/// skipped.
#[must_use]
pub fn require(version: Version) -> bool {
    match fetch::binary(version) {
        Ok(_) => true,
        Err(missing) => {
            assert!(
                !all_required() || version == Version::Debian29,
                "REQUIRE_ALL=1, but {version} is missing: {missing}"
            );
            skip_message(version, &missing);
            false
        }
    }
}

/// Whether nothing may be skipped that pip can bring: `REQUIRE_ALL=1`.
#[must_use]
pub fn all_required() -> bool {
    std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1")
}

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn skip_message(version: Version, missing: &fetch::Missing) {
    eprintln!("skipped, {version} is missing: {missing}");
}
