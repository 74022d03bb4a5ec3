//! The main job in one command, without a cluster: an in-process registry, a throwaway Sigstore, signed images and bad siblings,
//! and the real webhook over TLS, asked as the API server asks.
#![allow(clippy::indexing_slicing)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anstream::{eprintln, println};
use bonafide::cli::serve;
use bonafide_kit::scenario::{Case, Scenario};
use clap::Parser;
use serde_json::{Value, json};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Bonafide in one command: a registry, a Sigstore and the webhook in this process, and what becomes of each image.
#[derive(Parser)]
struct Args {
    /// Leave everything up until Ctrl-C, and print a curl command to try
    #[arg(long)]
    keep_running: bool,
}

/// The flags of `bonafide serve`, as it would be called.
#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: serve::Args,
}

/// What the webhook answered, and how long it took at first and once it was known.
struct Answered {
    allowed: bool,
    code: Option<u64>,
    message: String,
    warnings: Vec<String>,
    cold: Duration,
    warm: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let folder = std::env::temp_dir().join(format!("bonafide-quickstart-{}", std::process::id()));
    let result = run(&args, &folder).await;
    let _ = std::fs::remove_dir_all(&folder);
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{RED}error{PLAIN}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, folder: &Path) -> Result<bool, Box<dyn std::error::Error>> {
    println!(
        "{BOLD}Bonafide quickstart{PLAIN}: a registry, a Sigstore and the webhook in this process; nothing leaves this machine\n"
    );
    let scenario = Scenario::start().await;
    let files = Files::write(folder, &scenario)?;
    let flags = ["serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];
    let flags = flags.map(PathBuf::from).into_iter().chain(files.flags());
    let webhook = serve::start(Serve::parse_from(flags).args, "quickstart").await?;
    let url = format!("https://{}/validate?timeout=10s", webhook.address());
    let authority = webhook.authority().ok_or("the webhook has no authority")?.to_owned();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { stopped.await.unwrap_or(()) };
    let serving = tokio::spawn(webhook.run(stopped, Duration::from_secs(5)));

    // A client that checks the certificate, as the API server does.
    let trusted = reqwest::Certificate::from_pem(authority.as_bytes())?;
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build()?;
    let mut as_expected = 0;
    let mut told = Vec::new();
    println!(
        "{BOLD}{:<14}{:<46}{:<10}{:<22}{:>10}{:>10}{PLAIN}",
        "image", "what is special", "verdict", "reason", "cold", "warm"
    );
    for case in &scenario.cases {
        let answered = ask(&client, &url, case).await?;
        let fits = answered.is(case);
        as_expected += usize::from(fits);
        print_row(case, &answered, fits);
        told.push((case, answered));
    }
    println!("\n{as_expected} of {} verdicts are as expected", scenario.cases.len());
    println!(
        "{DIM}times are of one request over TLS, in a build that is not optimised; `make bench` measures{PLAIN}"
    );

    for name in ["buildkit", "half"] {
        if let Some((_, answered)) = told.iter().find(|(case, _)| case.name == name) {
            println!("\n{BOLD}What the developer of \"{name}\" reads{PLAIN}\n{}", answered.message);
        }
    }
    if let Some((_, answered)) = told.iter().find(|(case, _)| case.name == "amd64-only") {
        println!(
            "\n{BOLD}and, admitted with a warning, of \"amd64-only\"{PLAIN}\n{}",
            answered.warnings.join("\n")
        );
    }
    go_on();
    if args.keep_running {
        keep_running(&files, &url, &scenario).await?;
    }
    let _ = stop.send(());
    serving.await??;
    Ok(as_expected == scenario.cases.len())
}

impl Answered {
    fn is(&self, case: &Case) -> bool {
        match case.denied {
            None => self.allowed,
            Some(reason) => !self.allowed && self.code == Some(403) && self.reason() == reason,
        }
    }

    /// The reason's word at the end of the first line.
    fn reason(&self) -> &str {
        let first = self.message.lines().next().unwrap_or_default();
        first.rsplit_once(": ").map_or("", |(_, words)| words)
    }
}

fn print_row(case: &Case, answered: &Answered, fits: bool) {
    let (colour, verdict) = if answered.allowed { (GREEN, "admitted") } else { (RED, "denied") };
    let warned = if answered.warnings.is_empty() { "–" } else { "(warning)" };
    let reason = if answered.allowed { warned } else { answered.reason() };
    let name = match case.architecture {
        Some(architecture) => format!("  on {architecture}"),
        None => case.name.to_owned(),
    };
    let unexpected = if fits { "" } else { "  UNEXPECTED" };
    println!(
        "{name:<14}{:<46}{colour}{verdict:<10}{PLAIN}{reason:<22}{:>10}{:>10}{RED}{unexpected}{PLAIN}",
        case.about,
        milliseconds(answered.cold),
        milliseconds(answered.warm)
    );
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The review that the API server sends when a pod is created.
fn review(case: &Case) -> Value {
    let selector = case.architecture.map(|architecture| json!({"kubernetes.io/arch": architecture}));
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": format!("review-of-{}", case.name),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "quickstart"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": case.name, "namespace": "shop"},
                "spec": {"nodeSelector": selector, "containers": [{"name": "app", "image": case.image}]}
            }
        }
    })
}

async fn ask(
    client: &reqwest::Client,
    url: &str,
    case: &Case,
) -> Result<Answered, Box<dyn std::error::Error>> {
    let body = review(case).to_string();
    let mut times = Vec::new();
    let mut answer = Value::Null;
    for _ in 0..2 {
        let start = Instant::now();
        let request = client.post(url).header("content-type", "application/json").body(body.clone());
        let bytes = request.send().await?.error_for_status()?.bytes().await?;
        times.push(start.elapsed());
        answer = serde_json::from_slice(&bytes)?;
    }
    let response = &answer["response"];
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(Answered {
        allowed: response["allowed"].as_bool().unwrap_or(false),
        code: response["status"]["code"].as_u64(),
        message: response["status"]["message"].as_str().unwrap_or_default().to_owned(),
        warnings: warnings.filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        cold: times[0],
        warm: times[1],
    })
}

/// What the webhook is started with, on disk.
struct Files {
    policies: PathBuf,
    trust_root: PathBuf,
    authority: PathBuf,
}

impl Files {
    fn write(folder: &Path, scenario: &Scenario) -> std::io::Result<Self> {
        let files = Self {
            policies: folder.join("policies"),
            trust_root: folder.join("trusted_root.json"),
            authority: folder.join("ca.pem"),
        };
        std::fs::create_dir_all(&files.policies)?;
        std::fs::write(files.policies.join("shop.yaml"), scenario.policy())?;
        std::fs::write(&files.trust_root, scenario.sigstore.trusted_root_json())?;
        Ok(files)
    }

    fn flags(&self) -> impl Iterator<Item = PathBuf> {
        let flag = |name: &str, value: &Path| [PathBuf::from(name), value.to_owned()];
        let platforms =
            ["linux/amd64", "linux/arm64"].map(|platform| flag("--platform", Path::new(platform)));
        [
            flag("--policies", &self.policies),
            flag("--trust-root", &self.trust_root),
            flag("--tls-ca-out", &self.authority),
        ]
        .into_iter()
        .chain(platforms)
        .flatten()
        .collect::<Vec<_>>()
        .into_iter()
    }
}

fn go_on() {
    println!("\n{BOLD}Go on with{PLAIN}");
    for (what, command) in [
        ("what a reason means", "cargo run -- explain UnsignedProvenance"),
        ("a real image and who signed it", "cargo run -- verify IMAGE --repository OWNER/REPO"),
        ("what the webhook would say of a manifest", "cargo run -- review -f FILE --policies policies/"),
        ("check policies of your own", "cargo run -- policy check policies/"),
        ("this, left running with a curl to try", "cargo run --example quickstart -- --keep-running"),
    ] {
        println!("  {what:<42}{GREEN}{command}{PLAIN}");
    }
}

async fn keep_running(
    files: &Files,
    url: &str,
    scenario: &Scenario,
) -> Result<(), Box<dyn std::error::Error>> {
    let case = scenario.cases.iter().find(|case| case.name == "buildkit").ok_or("no such case")?;
    let body = files.authority.with_file_name("review.json");
    std::fs::write(&body, review(case).to_string())?;
    println!("\n{BOLD}Running until Ctrl-C{PLAIN}; try\n");
    println!(
        "  curl --cacert {} -H 'Content-Type: application/json' \\\n    --data @{} '{url}'\n",
        files.authority.display(),
        body.display()
    );
    std::io::stdout().flush()?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
