//! `cargo xtask fetch`: the servers and clients that the tests run on.

use std::path::PathBuf;
use std::process::ExitCode;

use testkit::fetch;
use testkit::{Version, all_required};

use crate::{Outcome, no_arguments};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    for version in Version::FETCHED {
        let path = fetch::binary(version).map_err(|missing| missing.to_string())?;
        println!("{version}: {}", path.display());
    }
    for (name, found) in others() {
        println!("{name}: {}", found.map_err(|missing| missing.to_string())?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// For the tests: what is missing is skipped there, unless nothing may be.
pub(crate) fn for_tests() -> Result<(), String> {
    for version in Version::FETCHED.into_iter().chain([Version::Debian29]) {
        match fetch::binary(version) {
            Ok(path) => println!("{version}: {}", path.display()),
            Err(missing) if all_required() && version != Version::Debian29 => {
                return Err(format!("REQUIRE_ALL=1, but {version} is missing: {missing}"));
            }
            Err(missing) => println!("{version} is missing, its tests are skipped: {missing}"),
        }
    }
    for (name, found) in others() {
        match found {
            Ok(path) => println!("{name}: {}", path.display()),
            Err(missing) if all_required() => {
                return Err(format!("REQUIRE_ALL=1, but {name} is missing: {missing}"));
            }
            Err(missing) => println!("{name} is missing, its tests are skipped: {missing}"),
        }
    }
    Ok(())
}

/// What there is in one version only.
fn others() -> [(&'static str, Result<PathBuf, fetch::Missing>); 2] {
    [("nats-py", testkit::nats_py()), ("redis-server", fetch::redis())]
}
