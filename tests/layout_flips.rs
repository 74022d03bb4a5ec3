//! One flipped bit in a file of a real signed image: nothing that is still read may then admit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bonafide::{
    api::manifest,
    domain::{
        policy::{PolicySet, Scope},
        verdict::Outcome,
        workload::Platforms,
    },
    gather::{
        ports::{Snapshot, Unobserved},
        reviewer::Reviewer,
    },
    registry::Layout,
    trust::Roots,
};
use tokio::time::Instant;

const POLICY: &str = r#"
apiVersion: bonafide.dev/v1alpha1
kind: ClusterProvenancePolicy
metadata: {name: generator}
spec:
  images: {include: ["ghcr.io/**"]}
  signers:
    - github:
        repository: slsa-framework/example-package
        workflow: slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml
        workflowRefs: ["refs/tags/v*"]
        refs: ["refs/heads/main"]
        triggers: [workflow_dispatch]
"#;

struct Judge {
    roots: Arc<Roots>,
    snapshot: Arc<Snapshot>,
}

impl Judge {
    fn new() -> Self {
        let policies = manifest::policies(POLICY).unwrap();
        let entries = policies.into_iter().map(|policy| policy.compiled.entry).collect();
        let snapshot = Snapshot { policies: PolicySet::new(entries, 1), ..Snapshot::default() };
        Self { roots: Arc::new(Roots::public_good().unwrap()), snapshot: Arc::new(snapshot) }
    }

    /// A fresh look at the folder: nothing is remembered of the last one. A folder that is no layout any more admits nothing.
    async fn outcome(&self, folder: &Path) -> Outcome {
        let Ok(layout) = Layout::open(folder) else { return Outcome::Deny };
        let reviewer = Reviewer::new(Arc::new(layout), Arc::clone(&self.roots) as _, Arc::new(Unobserved));
        let deadline = Instant::now() + Duration::from_secs(10);
        reviewer
            .verify_image(&self.snapshot, Scope::Everywhere, "ghcr.io/o/a", &Platforms::Unknown, deadline)
            .await
            .outcome
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in files(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test]
async fn no_flipped_bit_of_what_is_read_admits_an_image() {
    let vectors = Path::new("../shared/vectors/images");
    if !vectors.exists() {
        println!("skipped: {} is not there", vectors.display());
        return;
    }
    let judge = Judge::new();
    for name in
        ["slsa-github-generator-v1.4.0", "slsa-github-generator-v1.5.0", "slsa-github-generator-v2.1.0"]
    {
        let folder = std::env::temp_dir().join(format!("bonafide-flips-{}-{name}", std::process::id()));
        copy(&vectors.join(name), &folder);
        assert_eq!(judge.outcome(&folder).await, Outcome::Allow, "{name}");
        let mut read = 0;
        for file in files(&folder.join("blobs/sha256")) {
            let right = std::fs::read(&file).unwrap();
            // What an empty file does not spoil is never read: layers, other platforms' manifests.
            std::fs::write(&file, "").unwrap();
            let matters = judge.outcome(&folder).await != Outcome::Allow;
            read += usize::from(matters);
            let step = if matters { (right.len() * 8 / 60).max(1) } else { usize::MAX };
            for bit in (0..right.len() * 8).step_by(step) {
                let mut wrong = right.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&file, &wrong).unwrap();
                let outcome = judge.outcome(&folder).await;
                assert!(!matters || outcome != Outcome::Allow, "{name}: bit {bit} of {}", file.display());
            }
            std::fs::write(&file, &right).unwrap();
        }
        assert!(read >= 3, "{name}: manifest, attestation manifest and attestation are read");
        assert_eq!(judge.outcome(&folder).await, Outcome::Allow, "{name}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
