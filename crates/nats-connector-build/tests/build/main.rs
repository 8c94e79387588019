//! Files to compile, right ones and wrong ones.

mod corpus;
mod wrong;

use std::path::{Path, PathBuf};

use nats_connector_build::{Builder, Error};

/// The files that the examples and these tests compile.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto-first/proto")
}

/// Compiles `files` of `include` into a new directory.
fn compile(include: &Path, files: &[&str]) -> (tempfile::TempDir, Result<(), Error>) {
    let out = tempfile::tempdir().unwrap();
    let builder = Builder::new().includes([include]).out_dir(out.path()).rerun_if_changed(false);
    let result = builder.compile(files);
    (out, result)
}

/// Compiles one file with this text, `test.proto`.
fn compile_text(text: &str) -> (tempfile::TempDir, Result<(), Error>) {
    let include = tempfile::tempdir().unwrap();
    std::fs::write(include.path().join("test.proto"), text).unwrap();
    compile(include.path(), &["test.proto"])
}
