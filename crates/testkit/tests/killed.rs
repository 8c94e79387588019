//! A killed test process takes its server along. Runs itself as the process that is killed, so
//! it has its own `main`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::Server;

const HOLD: &str = "--hold-a-server";

#[expect(clippy::print_stdout, reason = "a test tells its result")]
fn main() {
    if std::env::args().any(|argument| argument == HOLD) {
        let server = Server::builder().start_blocking();
        println!("{}", server.address());
        loop {
            std::thread::park();
        }
    }
    a_killed_process_takes_its_server_along();
    println!("test a_killed_process_takes_its_server_along ... ok");
}

fn a_killed_process_takes_its_server_along() {
    let program = std::env::current_exe().expect("a running program");
    // The killed process cannot delete its server's folder.
    let leftovers = tempfile::tempdir().expect("a folder");
    let mut holder = Command::new(program)
        .arg(HOLD)
        .env("TMPDIR", leftovers.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let output = holder.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("it tells the address");
    let address: SocketAddr = line.trim().parse().expect("an address");
    assert!(TcpStream::connect(address).is_ok());
    holder.kill().expect("SIGKILL");
    holder.wait().expect("it is gone");

    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60), "{address} still answers");
        std::thread::sleep(Duration::from_millis(10));
    }
}
