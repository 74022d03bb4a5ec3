//! Processes that never outlive the test, however it ends.
//!
//! Each runs under a shell that reads from a pipe which only the test holds open. The kernel closes the pipe when the test
//! is over, even by SIGKILL, and the shell then kills its process. Statics are never dropped, so this is also how what tests
//! share comes to its end.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, PipeWriter, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// `stop` is SIGTERM with time to obey; the end of the pipe is SIGKILL, because nobody waits for it any more.
const SUPERVISOR: &str = r#"
exec 3<&0
"$@" 2>&1 </dev/null 3<&- &
child=$!
{
    read -r word <&3
    if [ "$word" = stop ]; then
        kill -TERM "$child"
        read -r word <&3
    fi
    kill -KILL "$child"
} >/dev/null 2>&1 &
reader=$!
wait "$child"
code=$?
kill -KILL "$reader"
exit "$code"
"#;

/// A process under its supervisor.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    supervisor: Child,
}

impl Process {
    /// Starts the command; what it says on both its outputs is appended to `log`. `held` stays open until the supervisor is
    /// gone too.
    ///
    /// # Errors
    /// The shell cannot be started, or the log cannot be written.
    pub fn start(
        name: &str,
        program: impl AsRef<OsStr>,
        configure: impl FnOnce(&mut Command),
        log: &Path,
        held: Option<&PipeWriter>,
    ) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISOR, name]).arg(program);
        configure(&mut command);
        command
            .stdin(Stdio::piped())
            .stdout(File::options().create(true).append(true).open(log)?)
            .stderr(held.map_or(Ok(Stdio::null()), |held| held.try_clone().map(Stdio::from))?);
        Ok(Self { name: name.to_owned(), log: log.to_owned(), supervisor: command.spawn()? })
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of what it said, under its name: for the message of a test that failed.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(30);
        format!("--- {}\n{}\n", self.name, lines[last..].join("\n"))
    }

    /// How it ended, where it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().unwrap()
    }

    /// SIGTERM, and SIGKILL where that is not obeyed within `grace`. A process that was killed has no exit code below 128.
    pub fn stop(mut self, grace: Duration) -> ExitStatus {
        self.tell("stop");
        let told = Instant::now();
        while told.elapsed() < grace {
            if let Some(status) = self.ended() {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill()
    }

    /// SIGKILL, as when a machine is lost.
    pub fn kill(mut self) -> ExitStatus {
        self.end()
    }

    fn tell(&mut self, word: &str) {
        if let Some(pipe) = self.supervisor.stdin.as_mut() {
            // It may have ended by itself already.
            let _ = writeln!(pipe, "{word}");
        }
    }

    fn end(&mut self) -> ExitStatus {
        drop(self.supervisor.stdin.take());
        self.supervisor.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            // The harness shows it with the test that failed.
            println!("{}", self.tail());
        }
    }
}
