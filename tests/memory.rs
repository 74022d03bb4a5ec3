//! What an image costs whose registry means ill: an answer within the deadline, and so much memory. The only test of its process, for it
//! looks at the process's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fmt::Write as _, fs, sync::Arc, time::Duration};

use bonafide::{
    api::compile::compile,
    domain::{
        identity::TrustRootName,
        policy::{PolicySet, Scope},
        verdict::Outcome,
        workload::Platforms,
    },
    gather::{
        ports::{Snapshot, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig},
    trust::Roots,
};
use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::{Fault, On, Registry},
    scenario::{REF, SOURCE, WORKFLOW, signer},
    sigstore::{Build, BundleVersion, Sigstore, statement_v1},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The program's own, for others keep for each thread what it once had.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REPO: &str = "acme/app";
/// How much more memory a review may take than was taken before it.
const MEMORY: usize = 64 << 20;
/// What the API server waits for, unless it is told otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// A line of what Linux says of this process, in bytes; `None` elsewhere.
fn status(line: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let text = status.lines().find_map(|text| text.strip_prefix(line))?;
    text.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
}

struct World {
    registry: Registry,
    image: Pushed,
    sigstore: Sigstore,
}

impl World {
    fn statement(&self) -> Value {
        let digest = self.image.digest.trim_start_matches("sha256:");
        statement_v1(&[("app", digest)], &Build::of(&signer()))
    }

    fn attach(&self, statement: &str) {
        let bundle = self.sigstore.sign_statement(&signer(), statement).bundle_json(BundleVersion::V03);
        attach_bundle(&self.registry, REPO, &self.image.digest, bundle);
    }

    /// A statement with this text in the predicate.
    fn attach_with(&self, field: &str) {
        let mut statement = self.statement();
        statement["predicate"]["x"] = json!([]);
        self.attach(&statement.to_string().replace(r#""x":[]"#, &format!(r#""x":{field}"#)));
    }
}

/// An object of short fields, which takes the most memory for its length.
fn fields() -> String {
    let fields = (0..79_700).fold(String::new(), |mut all, n| {
        write!(all, r#","k{n:x}":0"#).unwrap();
        all
    });
    format!(r#"{{"a":0{fields}}}"#)
}

type Attack = (&'static str, Outcome, fn(&World));

/// The worst one first: what is freed is not given back, and the next one has it for nothing.
const ATTACKS: [Attack; 10] = [
    ("80,000 fields", Outcome::Allow, |world| {
        world.attach_with(&fields());
    }),
    ("nothing out of the ordinary", Outcome::Allow, |world| world.attach(&world.statement().to_string())),
    ("300 attestations", Outcome::Deny, |world| {
        for n in 0..300 {
            world.attach(&json!({"n": n}).to_string());
        }
    }),
    ("a payload as large as can be", Outcome::Allow, |world| {
        let mut text = world.statement().to_string();
        text.push_str(&" ".repeat((8 << 20) - text.len()));
        world.attach(&text);
    }),
    ("80,000 numbers", Outcome::Allow, |world| world.attach_with(&format!("[0{}]", ",0".repeat(79_700)))),
    ("16,000 objects", Outcome::Allow, |world| {
        world.attach_with(&format!("[0{}]", r#",{"a":0}"#.repeat(15_900)));
    }),
    ("a million brackets", Outcome::Deny, |world| world.attach_with(&"[".repeat(1_000_000))),
    ("an envelope with 10,000 signatures", Outcome::Deny, |world| {
        let signed = world.sigstore.sign_statement(&signer(), world.statement().to_string());
        let (envelope, annotations) = signed.cosign_att_layer();
        let mut envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let one = envelope["signatures"][0].clone();
        envelope["signatures"] = json!(vec![one; 10_000]);
        let layer = (envelope.to_string().into_bytes(), annotations);
        attach_att(&world.registry, REPO, &world.image.digest, &[layer]);
    }),
    ("a bundle with 1,000 log entries", Outcome::Deny, |world| {
        let signed = world.sigstore.sign_statement(&signer(), world.statement().to_string());
        let mut bundle = signed.bundle(BundleVersion::V03);
        let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
        *entries = json!(vec![entries[0].clone(); 1000]);
        attach_bundle(&world.registry, REPO, &world.image.digest, bundle.to_string());
    }),
    ("answers without end", Outcome::Deny, |world| {
        world.attach(&world.statement().to_string());
        world.registry.fault(On::blobs(), Fault::Endless);
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_takes_so_much_memory_and_time_whatever_it_is() {
    let compiled = compile(&json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
        "spec": {"images": {"include": ["**"]}, "signers": [
            {"name": "w", "github": {"repository": SOURCE, "workflow": WORKFLOW, "refs": [REF], "triggers": ["push"]}}]},
    }));
    assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
    let policies = PolicySet::new(vec![compiled.entry], 1);
    let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
    for (name, outcome, prepare) in ATTACKS {
        let registry = Registry::start().await;
        let image = Image::single("linux/amd64").push(&registry, REPO, "v1");
        let world = World { registry, image, sigstore: Sigstore::new() };
        prepare(&world);
        let roots = Roots::from_json(TrustRootName::default(), &world.sigstore.trusted_root_json()).unwrap();
        let client = Client::new(ClientConfig::default()).unwrap();
        let reviewer = Reviewer::new(Arc::new(client), Arc::new(roots), Arc::new(Unobserved));
        let image = world.registry.reference(REPO, &world.image.digest);

        let before = status("VmRSS:");
        // The highest mark is forgotten; where that is not to be had it is that of the whole process, and too high.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let begun = Instant::now();
        let deadline = begun + DEADLINE;
        let verdict =
            reviewer.verify_image(&snapshot, Scope::Everywhere, &image, &Platforms::Unknown, deadline).await;
        let took = begun.elapsed();
        let more = status("VmHWM:").zip(before).map(|(most, before)| most.saturating_sub(before));
        println!("{name}: {took:?}, {} KiB more", more.unwrap_or_default() >> 10);
        assert_eq!(verdict.outcome, outcome, "{name}: {:?}", verdict.problems);
        assert!(took < DEADLINE + Duration::from_secs(1), "{name} took {took:?}");
        assert!(more.is_none_or(|more| more < MEMORY), "{name} took {} MiB", more.unwrap_or_default() >> 20);
    }
}
