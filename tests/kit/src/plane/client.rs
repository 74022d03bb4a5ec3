//! kubectl and helm, as somebody: the administrator, or a service account with the rights it was given.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::tools::Tools;

/// Somebody who talks to the API server.
#[derive(Debug, Clone)]
pub struct Client {
    tools: Tools,
    kubeconfig: PathBuf,
}

/// What a call left behind.
#[derive(Debug)]
pub struct Ran {
    /// What was called.
    pub call: String,
    /// Whether it worked.
    pub worked: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// What it printed.
    ///
    /// # Panics
    /// It failed.
    pub fn ok(self) -> String {
        assert!(self.worked, "`{}` failed: {}{}", self.call, self.out, self.err);
        self.out
    }

    /// Why it failed.
    ///
    /// # Panics
    /// It worked.
    pub fn refused(self) -> String {
        assert!(!self.worked, "`{}` worked: {}{}", self.call, self.out, self.err);
        self.err
    }

    /// The output, or the error: what [`eventually`](super::eventually) asks with.
    ///
    /// # Errors
    /// What it printed to standard error, where it failed.
    pub fn attempt(self) -> Result<String, String> {
        if self.worked { Ok(self.out) } else { Err(self.err) }
    }
}

impl Client {
    /// Somebody with this token; `authority` is the PEM of who signs the API server's certificate.
    pub(super) fn new(tools: &Tools, file: PathBuf, server: &str, authority: &Path, token: &str) -> Self {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "plane", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "user"}}],
            "current-context": "plane",
        });
        fs::write(&file, config.to_string()).unwrap();
        Self { tools: tools.clone(), kubeconfig: file }
    }

    /// The file that `KUBECONFIG` names for a process that is to be this somebody.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Ran {
        self.run("kubectl", arguments, "")
    }

    /// Runs kubectl with this on its standard input, for `-f -`.
    pub fn kubectl_reading(&self, arguments: &[&str], input: &str) -> Ran {
        self.run("kubectl", arguments, input)
    }

    /// Applies manifests, YAML or JSON.
    pub fn apply(&self, manifests: &str) -> Ran {
        self.run("kubectl", &["apply", "-f", "-"], manifests)
    }

    /// What `kubectl get` finds, as JSON.
    ///
    /// # Errors
    /// What kubectl says, where it fails.
    pub fn get(&self, arguments: &[&str]) -> Result<Value, String> {
        let ran = self.kubectl(&[&["get", "-o", "json"], arguments].concat());
        ran.attempt().map(|text| serde_json::from_str(&text).unwrap())
    }

    /// Runs helm.
    pub fn helm(&self, arguments: &[&str]) -> Ran {
        self.run("helm", arguments, "")
    }

    /// Nothing of the caller's environment is passed on: neither its cluster nor its proxy is meant.
    fn run(&self, tool: &str, arguments: &[&str], input: &str) -> Ran {
        let mut child = Command::new(self.tools.path(tool))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.kubeconfig.with_extension("home"))
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may fail before it reads.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            call: format!("{tool} {}", arguments.join(" ")),
            worked: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
