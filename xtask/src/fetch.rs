//! `cargo xtask fetch`: the servers and clients that the tests run on.

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
    let path = testkit::nats_py().map_err(|missing| missing.to_string())?;
    println!("nats-py: {}", path.display());
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
    match testkit::nats_py() {
        Ok(path) => println!("nats-py: {}", path.display()),
        Err(missing) if all_required() => {
            return Err(format!("REQUIRE_ALL=1, but nats-py is missing: {missing}"));
        }
        Err(missing) => println!("nats-py is missing, its tests are skipped: {missing}"),
    }
    Ok(())
}
