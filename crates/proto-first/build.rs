//! Compiles all .proto files into the modules that `src/lib.rs` takes in.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    protos(Path::new("proto"), &mut files)?;
    files.sort();
    nats_connector_build::Builder::new().includes(["proto"]).compile(&files)?;
    Ok(())
}

fn protos(directory: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, out)?;
        } else {
            out.push(path);
        }
    }
    Ok(())
}
