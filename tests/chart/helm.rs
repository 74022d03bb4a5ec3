//! helm, where it was built.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use bonafide_kit::plane::{Availability, Tools};
use serde_json::Value;

/// The chart's folder.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/bonafide")
}

/// The one object of this kind.
#[track_caller]
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there are two of {kind}");
    one
}

/// helm.
pub struct Helm(Tools);

impl Helm {
    /// `None` where the test is skipped, which it says.
    pub fn find() -> Option<Self> {
        match Tools::find() {
            Availability::Run(tools) => Some(Self(tools)),
            Availability::Fail(why) => panic!("there is no helm: {why}"),
            Availability::Skip(why) => {
                // Not by `eprintln!`, which the test harness keeps to itself where a test passes.
                let _ = writeln!(io::stderr(), "SKIPPED: a test of the chart: {why}");
                None
            }
        }
    }

    /// Runs it on the chart with these values set; what it says, or what it complains of.
    pub fn run(&self, arguments: &[&str], set: &[&str]) -> Result<String, String> {
        self.run_on(&chart(), arguments, set)
    }

    /// What is rendered by `helm upgrade --reuse-values`, where `defaults` are those of the chart that was there before: helm takes them in
    /// place of the new chart's.
    #[track_caller]
    pub fn render_reusing(&self, defaults: &Path) -> Vec<Value> {
        let reusing = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reusing-{}", std::process::id()));
        copy(&chart(), &reusing);
        fs::copy(defaults, reusing.join("values.yaml")).unwrap();
        let rendered = self.run_on(&reusing, &["template", "bonafide", "--namespace", "prod"], &[]);
        fs::remove_dir_all(&reusing).unwrap();
        objects(&rendered.unwrap())
    }

    fn run_on(&self, chart: &Path, arguments: &[&str], set: &[&str]) -> Result<String, String> {
        let run = Command::new(self.0.path("helm"))
            .args(arguments)
            .arg(chart)
            .args(set.iter().map(|value| format!("--set={value}")))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // No plugins or repositories of whoever runs this.
            .env("HOME", env!("CARGO_TARGET_TMPDIR"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if run.status.success() { Ok(text(run.stdout)) } else { Err(text(run.stderr) + &text(run.stdout)) }
    }

    /// What is rendered for a release `bonafide` in the namespace `prod`.
    #[track_caller]
    pub fn render(&self, set: &[&str]) -> Vec<Value> {
        self.render_as("bonafide", set)
    }

    /// What is rendered for a release of this name.
    #[track_caller]
    pub fn render_as(&self, release: &str, set: &[&str]) -> Vec<Value> {
        objects(&self.run(&["template", release, "--namespace", "prod"], set).unwrap())
    }
}

fn objects(text: &str) -> Vec<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (source, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}
