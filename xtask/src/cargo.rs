//! Running cargo.

use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::Outcome;

/// The cargo that runs this program. A machine that builds once has no use for incremental files,
/// which are half of what a build leaves on its disk.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = testkit::cargo();
    if std::env::var_os("CI").is_some() {
        cargo.env("CARGO_INCREMENTAL", "0");
    }
    cargo.args(arguments);
    cargo
}

/// Runs a command whose output the user sees.
pub(crate) fn check(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(command))) }
}

/// [`check`] for a command that is all there is to do.
pub(crate) fn run(command: &mut Command) -> Outcome {
    check(command).map(|()| ExitCode::SUCCESS)
}

/// What a command prints on standard output; its errors are shown.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("{}: {}", shown(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", shown(command)))
}

/// The library's package, as `cargo metadata` has it.
pub(crate) fn library() -> Result<Value, String> {
    let metadata = metadata()?;
    let root = format!("{}/Cargo.toml", metadata["workspace_root"].as_str().unwrap_or_default());
    let library =
        packages(&metadata).iter().find(|package| package["manifest_path"] == root.as_str());
    library.cloned().ok_or_else(|| format!("cargo metadata: no package has the manifest {root}"))
}

/// The names of the packages that are for others: those without `publish = false`.
pub(crate) fn published() -> Result<Vec<String>, String> {
    let metadata = metadata()?;
    let published = packages(&metadata).iter().filter(|package| package["publish"].is_null());
    Ok(published.filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
}

fn metadata() -> Result<Value, String> {
    let text = output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Builds an example and returns the program. Run directly, it gets the signals itself.
pub(crate) fn example(name: &str) -> Result<String, String> {
    let format = "--message-format=json-render-diagnostics";
    let text = output(&mut cargo(&["build", "--quiet", "--example", name, format]))?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(str::to_owned));
    programs.next().ok_or_else(|| format!("cargo built no example \"{name}\""))
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    format!("{name} {}", arguments.join(" "))
}
