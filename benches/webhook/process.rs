//! The binary as a process: its size, how soon it is ready, and how much memory it then has.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::median;

const STARTS: usize = 7;

pub fn measure(policies: &Path) {
    let binary = env!("CARGO_BIN_EXE_bonafide");
    let size = std::fs::metadata(binary).unwrap().len();
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = Instant::now();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--policies"])
            .arg(policies)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let health = health_address(&mut child);
        while !is_ready(&health) {
            assert!(start.elapsed() < Duration::from_secs(10), "not ready in 10 s");
        }
        ready.push(start.elapsed().as_secs_f64() * 1e3);
        resident.push(resident_kib(child.id()) as f64 / 1024.0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!("the process, {STARTS} starts, medians");
    println!("binary                {:>8.1} MB", size as f64 / 1e6);
    println!("time to ready         {:>8.1} ms", median(ready.into_iter()));
    println!("resident after start  {:>8.1} MiB", median(resident.into_iter()));
}

/// `serve` says where it listens on its first lines.
fn health_address(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("health http://").map(ToOwned::to_owned))
        .unwrap()
}

pub fn is_ready(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

pub fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The processor time that a process has taken so far.
pub fn cpu_time(process: u32) -> Duration {
    /// `USER_HZ`, the same on every Linux.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, which may hold anything, ends with the last bracket; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
