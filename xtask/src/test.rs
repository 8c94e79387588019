//! `cargo xtask test`: everything that must hold, in one command.

use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

use crate::cargo::{cargo, check, library, output, published};
use crate::{Outcome, fetch, no_arguments};

/// What the package must hold beside the code.
const PACKAGED: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    let start = Instant::now();
    let library = library()?;

    step("fetch the servers", fetch::for_tests)?;
    step("format", || check(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("lints, all features", || lint(&["--workspace", "--all-targets", "--all-features"]))?;
    // The library alone: its development dependencies switch features on.
    step("lints, no features", || lint(&["--lib", "--no-default-features"]))?;
    for feature in features(&library) {
        step(&format!("lints, feature {feature}"), || {
            lint(&["--lib", "--no-default-features", "--features", feature])
        })?;
    }
    // Builds the examples and runs the documentation's examples too.
    step("tests", || check(&mut cargo(&["test", "--workspace", "--all-features"])))?;
    step("documentation", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
        check(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("package", package)?;
    println!("\nall passed in {:.0} s", start.elapsed().as_secs_f32());
    Ok(ExitCode::SUCCESS)
}

/// Announces a step and says how long it took or that it failed.
fn step(name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("\n==> {name}");
    let start = Instant::now();
    work().map_err(|error| format!("failed at \"{name}\": {error}"))?;
    println!("    {name}: ok in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

fn lint(selection: &[&str]) -> Result<(), String> {
    let arguments = [&["clippy", "--quiet"], selection, &["--", "-D", "warnings"]].concat();
    check(&mut cargo(&arguments))
}

fn features(library: &Value) -> impl Iterator<Item = &str> {
    let features = library["features"].as_object();
    let names = features.into_iter().flat_map(|all| all.keys().map(String::as_str));
    names.filter(|name| *name != "default")
}

fn package() -> Result<(), String> {
    let list = output(&mut cargo(&["package", "--list", "--allow-dirty"]))?;
    for file in PACKAGED {
        if !list.lines().any(|line| line == file) {
            return Err(format!("{file} is not in the package; see `include` in Cargo.toml"));
        }
    }
    // Together: the library depends on others of them, in the versions that are here.
    let mut package = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
    for name in published()? {
        package.args(["--package", &name]);
    }
    check(&mut package)
}
