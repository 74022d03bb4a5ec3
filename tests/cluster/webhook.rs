//! The real binary as a process beside the control plane, under the rights of a service account.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use bonafide_kit::plane::{Client, Process, eventually, free_port};

/// A process that answers reviews. To drop it is SIGKILL, as when its node is lost.
pub struct Webhook {
    /// Where it answers, on 127.0.0.1.
    pub port: u16,
    health: u16,
    process: Process,
}

impl Webhook {
    /// `bonafide serve` with these flags as `who`, on `port`; it is ready. What it writes goes to `folder`.
    pub fn start(who: &Client, folder: &Path, port: u16, flags: &[&str]) -> Self {
        Self::spawn(who, folder, port, flags).ready()
    }

    /// The same with the binary of another version.
    pub fn start_program(program: &Path, who: &Client, folder: &Path, port: u16, flags: &[&str]) -> Self {
        Self::spawn_program(program, who, folder, port, flags).ready()
    }

    fn ready(mut self) -> Self {
        let webhook = &mut self;
        eventually("the webhook to be ready", || {
            if let Some(status) = webhook.process.ended() {
                panic!("the webhook ended with {status}: {}", webhook.process.tail());
            }
            webhook.get("/readyz").map_err(|answer| format!("{answer}\n{}", webhook.process.tail()))
        });
        self
    }

    /// The same, without waiting: for what does not become ready, or ends.
    pub fn spawn(who: &Client, folder: &Path, port: u16, flags: &[&str]) -> Self {
        // The tests' registries are on loopback.
        let local = flags.contains(&"--cluster").then_some("--local-registry=127.0.0.1");
        let flags: Vec<&str> = flags.iter().copied().chain(local).collect();
        Self::spawn_program(Path::new(env!("CARGO_BIN_EXE_bonafide")), who, folder, port, &flags)
    }

    fn spawn_program(program: &Path, who: &Client, folder: &Path, port: u16, flags: &[&str]) -> Self {
        let health = free_port();
        let configure = |command: &mut Command| {
            command
                .args(["serve", "--log-format=json"])
                .arg(format!("--listen=127.0.0.1:{port}"))
                .arg(format!("--health-listen=127.0.0.1:{health}"))
                .args(flags)
                .env_clear()
                .env("KUBECONFIG", who.kubeconfig())
                // Credentials of whoever runs the tests are no part of them.
                .env("HOME", folder);
        };
        let log = folder.join(format!("webhook-{port}-{health}.log"));
        let process = Process::start("bonafide", program, configure, &log, None).unwrap();
        Self { port, health, process }
    }

    /// What it logged, and what it said where it listens.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The body of `/readyz`, `/livez` or `/metrics`; an error where the status is not 200.
    pub fn get(&self, path: &str) -> Result<String, String> {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.health))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = asked().map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.filter(|_| answer.starts_with("HTTP/1.1 200")).ok_or(answer)
    }

    /// SIGTERM, as a kubelet sends it.
    pub fn stop(self) -> ExitStatus {
        self.process.stop(Duration::from_secs(30))
    }
}
