//! Policies from folders, for a webhook without a cluster: read at start, read again when a file changes.
//!
//! Whatever cannot be read or understood stays in the set as an invalid policy, which fails closed. A folder that vanishes as a whole
//! leaves the policies in force that were there: nobody loosens a cluster by a failing mount.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    files::{self, Stamp},
    metrics::{Metrics, Reload},
};
use crate::{
    domain::{
        platform::Platform,
        policy::{InvalidPolicy, Mode, NAME_LABEL, PolicyEntry, PolicyId, PolicySet},
    },
    gather::ports::{Incomplete, Inventory, LabelMap, RootKeeper, Snapshot, Unlisted, Unmatched},
};

/// How many files a folder may have.
const MAX_FILES: usize = 1000;
/// How long a policy file may be.
const MAX_FILE: usize = 1024 * 1024;
/// What policy files end in.
const EXTENSIONS: &[&str] = &["yaml", "yml", "json"];
/// How long to let whoever is writing finish, and how often.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: usize = 10;

/// Reads a file. An error is a file of which nothing is known.
pub type Compile = fn(path: &Path, text: &str) -> Result<Compiled, String>;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Compiled {
    /// Policies that are valid or fail closed.
    pub policies: Vec<PolicyEntry>,
    /// The labels of namespaces: cluster policies select by them.
    pub namespaces: BTreeMap<String, LabelMap>,
    /// `TrustRoot` objects.
    pub trust_roots: Vec<Value>,
}

/// What a snapshot holds beside the policies.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The platforms of nodes.
    pub platforms: Vec<Platform>,
    /// What images get that no policy names.
    pub unmatched: Unmatched,
    /// Who keeps the trust roots of the folders.
    pub trust_roots: Option<Arc<dyn RootKeeper>>,
}

/// The policies in some folders.
pub struct PolicyFolders {
    folders: Vec<PathBuf>,
    compile: Compile,
    surroundings: Surroundings,
    metrics: Arc<Metrics>,
    /// Filled when the folders were read.
    current: ArcSwapOption<Snapshot>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    stamps: Vec<Stamp>,
    settled: bool,
    contents: Vec<Source>,
    failure: Option<String>,
}

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    path: PathBuf,
    text: Result<String, String>,
}

impl PolicyFolders {
    /// Reads the folders (a file is a folder of one).
    ///
    /// # Errors
    /// A folder that cannot be listed. A file that cannot be read or compiled is no error: it fails closed.
    pub fn open(
        folders: Vec<PathBuf>,
        compile: Compile,
        surroundings: Surroundings,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let this = Self {
            folders,
            compile,
            surroundings,
            metrics,
            current: ArcSwapOption::empty(),
            seen: Mutex::default(),
        };
        let stamps = this.list()?;
        let contents = read_all(&stamps);
        this.publish(&contents);
        *this.seen.lock() = Seen { settled: files::are_settled(&stamps), stamps, contents, failure: None };
        Ok(this)
    }

    /// Looks at the folders again. Whether other policies are in force.
    pub fn poll(&self) -> bool {
        let mut seen = self.seen.lock();
        let stamps = match self.list() {
            Ok(stamps) => stamps,
            Err(error) => {
                let error = error.to_string();
                if seen.failure.as_ref() != Some(&error) {
                    self.metrics.policies_reloaded(Reload::Failed);
                    tracing::error!(error, "policies cannot be read again; those in force stay");
                    seen.failure = Some(error);
                }
                return false;
            }
        };
        seen.failure = None;
        if seen.settled && seen.stamps == stamps {
            return false;
        }
        let settled = files::are_settled(&stamps);
        let contents = if stamps == seen.stamps { read_all(&stamps) } else { self.read_when_still(&stamps) };
        seen.stamps = stamps;
        seen.settled = settled;
        if contents == seen.contents {
            return false;
        }
        self.publish(&contents);
        self.metrics.policies_reloaded(Reload::Applied);
        seen.contents = contents;
        true
    }

    /// A file that is being written is read too early at first: empty, or half. Waits until two looks agree, for a moment.
    fn read_when_still(&self, stamps: &[Stamp]) -> Vec<Source> {
        let mut before = (stamps.to_vec(), read_all(stamps));
        for _ in 0..PATIENCE {
            std::thread::sleep(PAUSE);
            let Ok(stamps) = self.list() else { break };
            let after = (stamps.clone(), read_all(&stamps));
            if after == before {
                break;
            }
            before = after;
        }
        before.1
    }

    fn list(&self) -> io::Result<Vec<Stamp>> {
        let mut stamps = Vec::new();
        for folder in &self.folders {
            let found = files::list(folder, EXTENSIONS, MAX_FILES)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
            stamps.extend(found);
        }
        Ok(stamps)
    }

    fn publish(&self, contents: &[Source]) {
        let mut entries: Vec<PolicyEntry> = Vec::new();
        let mut namespaces: BTreeMap<String, LabelMap> = BTreeMap::new();
        let mut roots: Vec<Value> = Vec::new();
        for source in contents {
            let found = self.read(source);
            if found.policies.is_empty() && found.namespaces.is_empty() && found.trust_roots.is_empty() {
                tracing::warn!(file = source.path.display().to_string(), "the file holds no policy");
            }
            entries.extend(found.policies);
            namespaces.extend(found.namespaces);
            roots.extend(found.trust_roots);
        }
        warn_of_selectors(&entries);
        if let Some(keeper) = &self.surroundings.trust_roots {
            keeper.keep(&roots);
        }
        let invalid = entries.iter().filter(|entry| matches!(entry, PolicyEntry::Invalid(_))).count();
        self.metrics.set_policies(entries.len().saturating_sub(invalid), invalid);
        for entry in &entries {
            if let PolicyEntry::Invalid(policy) = entry {
                tracing::error!(
                    policy = policy.id.to_string(),
                    errors = policy.errors.join("; "),
                    "an invalid policy is in force and denies what it covers"
                );
            }
        }
        let generation = self.current.load().as_ref().map_or(0, |current| current.policies.generation);
        let generation = generation.saturating_add(1);
        tracing::info!(generation, policies = entries.len(), invalid, "policies are in force");
        let Surroundings { platforms, unmatched, trust_roots } = self.surroundings.clone();
        let policies = PolicySet::new(entries, generation);
        if let Some(known) = trust_roots.map(|keeper| keeper.known()) {
            for (policy, root) in policies.named_roots() {
                if let Some(lack) = known.lack(root) {
                    tracing::warn!(
                        policy = policy.to_string(),
                        lack,
                        "a signer of the policy is never satisfied"
                    );
                }
            }
        }
        self.current.store(Some(Arc::new(Snapshot {
            policies,
            platforms,
            namespaces: Arc::new(namespaces),
            unmatched,
            ..Snapshot::default()
        })));
    }

    fn read(&self, source: &Source) -> Compiled {
        match &source.text {
            // An empty file is one that somebody is about to write, or whose content was lost.
            Ok(text) if text.trim().is_empty() => unreadable(&source.path, "the file is empty"),
            Ok(text) => match (self.compile)(&source.path, text) {
                Ok(entries) => entries,
                Err(error) => unreadable(&source.path, &error),
            },
            Err(error) => unreadable(&source.path, error),
        }
    }
}

impl Inventory for PolicyFolders {
    fn snapshot(&self) -> Result<Arc<Snapshot>, Incomplete> {
        let unread = || Incomplete(vec![Unlisted { resource: "policies", error: None }]);
        self.current.load_full().ok_or_else(unread)
    }
}

fn read_all(stamps: &[Stamp]) -> Vec<Source> {
    let read = |stamp: &Stamp| {
        let text = files::read(stamp.path(), MAX_FILE)
            .map_err(|error| format!("the file cannot be read: {error}"))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned()));
        Source { path: stamp.path().to_owned(), text }
    };
    stamps.iter().map(read).collect()
}

/// A namespace whose labels nobody told is taken to have any.
fn warn_of_selectors(entries: &[PolicyEntry]) {
    for entry in entries {
        let PolicyEntry::Valid(policy) = entry else { continue };
        let mut others = policy.namespaces.0.iter().map(|requirement| &requirement.key);
        if let Some(label) = others.find(|key| *key != NAME_LABEL) {
            tracing::warn!(
                policy = policy.id.to_string(),
                label,
                "the policy selects namespaces by a label; it is in force for every namespace but those whose Namespace object is in \
                 the folder and tells otherwise"
            );
        }
    }
}

/// What stands for a file of which nothing is known: a policy for every image of every namespace that nothing satisfies.
fn unreadable(path: &Path, error: &str) -> Compiled {
    let policy = PolicyEntry::Invalid(Arc::new(InvalidPolicy {
        id: PolicyId { namespace: None, name: path.display().to_string() },
        namespaces: None,
        images: None,
        mode: Mode::Enforce,
        errors: vec![error.to_owned()],
    }));
    Compiled { policies: vec![policy], ..Compiled::default() }
}
