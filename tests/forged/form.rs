//! The forms in which attestations come: who signs, how it is logged, where it is kept. And the way from there to a verdict.

use std::{collections::HashMap, sync::Arc};

use bonafide::{
    api::compile::{NoKeys, compile},
    domain::{
        digest::Digest,
        evaluate::evaluate,
        evidence::{Attestation, Finding, ImageFacts, Root, SubjectEvidence},
        identity::TrustRootName,
        plan::{ImagePlan, Plan, Stage, plan},
        policy::{PolicyEntry, PolicySet, Scope, Unmatched},
        verdict::{ImageVerdict, Outcome, Reason},
        workload::Platforms,
    },
    gather::ports::{RawAttestation, TrustRoots},
    trust::Roots,
};
use bonafide_kit::sigstore::{
    Build, BundleVersion, EntryKind, Identity, KeyKind, Signed, Signing, SigningKey, Sigstore, statement_v1,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::trust_support::{bundle, layer};

pub const WORKFLOW: &str = ".github/workflows/build.yml";

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The holder of a certificate.
    Certificate,
    /// The holder of a key of this kind.
    Key(KeyKind),
}

/// Where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A bundle, as a referrer.
    Bundle(BundleVersion),
    /// A layer of an `.att` tag.
    Att,
}

/// One form. Without a log entry it is of an instance that has timestamps alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub by: By,
    pub kept: Kept,
    pub entry: Option<EntryKind>,
}

const fn form(by: By, kept: Kept, entry: EntryKind) -> Form {
    Form { by, kept, entry: Some(entry) }
}

const V01: Kept = Kept::Bundle(BundleVersion::V01);
const V02: Kept = Kept::Bundle(BundleVersion::V02);
const V03: Kept = Kept::Bundle(BundleVersion::V03);

/// Every form that is read.
pub const FORMS: [Form; 24] = [
    form(By::Certificate, V01, EntryKind::Dsse001),
    form(By::Certificate, V01, EntryKind::Intoto002),
    form(By::Certificate, V02, EntryKind::Dsse001),
    form(By::Certificate, V02, EntryKind::Intoto002),
    form(By::Certificate, V03, EntryKind::Dsse001),
    form(By::Certificate, V03, EntryKind::Intoto002),
    form(By::Certificate, V03, EntryKind::HashedRekord002),
    form(By::Certificate, V03, EntryKind::Dsse002),
    form(By::Certificate, Kept::Att, EntryKind::Intoto001),
    form(By::Certificate, Kept::Att, EntryKind::Intoto002),
    form(By::Certificate, Kept::Att, EntryKind::Dsse001),
    Form { by: By::Certificate, kept: V03, entry: None },
    form(By::Key(KeyKind::P256), V01, EntryKind::Dsse001),
    form(By::Key(KeyKind::P256), V03, EntryKind::Dsse001),
    form(By::Key(KeyKind::P256), V03, EntryKind::HashedRekord002),
    form(By::Key(KeyKind::P256), V03, EntryKind::Dsse002),
    form(By::Key(KeyKind::P384), V03, EntryKind::HashedRekord002),
    form(By::Key(KeyKind::Ed25519), V03, EntryKind::Intoto002),
    form(By::Key(KeyKind::Rsa2048), V03, EntryKind::Dsse001),
    form(By::Key(KeyKind::P256), Kept::Att, EntryKind::Intoto001),
    form(By::Key(KeyKind::P384), Kept::Att, EntryKind::Dsse001),
    form(By::Key(KeyKind::Ed25519), Kept::Att, EntryKind::Intoto002),
    form(By::Key(KeyKind::P521), V03, EntryKind::HashedRekord002),
    form(By::Key(KeyKind::P521), Kept::Att, EntryKind::Dsse001),
];

impl Form {
    /// The name of the instance's trust root.
    pub fn root(self) -> &'static str {
        if self.entry.is_some() { "sigstore" } else { "github" }
    }

    pub fn is_keyed(self) -> bool {
        self.by != By::Certificate
    }

    pub fn is_v2(self) -> bool {
        self.entry.is_some_and(EntryKind::is_v2)
    }

    /// The attestation as it is found.
    pub fn of(self, signed: &Signed) -> RawAttestation {
        match self.kept {
            Kept::Bundle(version) => bundle(signed.bundle_json(version).into_bytes()),
            Kept::Att => {
                let (envelope, annotations) = signed.cosign_att_layer();
                layer(envelope, annotations)
            }
        }
    }
}

/// A Sigstore, its trust root, and somebody with a key.
pub struct World {
    pub form: Form,
    pub sigstore: Sigstore,
    pub roots: Roots,
    pub key: SigningKey,
}

pub fn identity() -> Identity {
    Identity::github("acme/app", WORKFLOW, "refs/heads/main", "push")
}

pub fn image() -> Digest {
    format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
}

pub fn statement() -> String {
    let build = Build::of(&identity()).ran("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z");
    statement_v1(&[("ghcr.io/acme/app", &image().hex())], &build).to_string()
}

pub fn roots(name: &str, sigstore: &Sigstore) -> Roots {
    Roots::from_json(TrustRootName(name.to_owned()), &sigstore.trusted_root_json()).unwrap()
}

impl World {
    pub fn of(form: Form) -> Self {
        let sigstore = match form.entry {
            Some(_) => Sigstore::new(),
            None => Sigstore::builder().timestamps_only().build(),
        };
        Self::under(form, sigstore)
    }

    /// The same under an instance of one's own making.
    pub fn under(form: Form, sigstore: Sigstore) -> Self {
        let kind = match form.by {
            By::Certificate => KeyKind::P256,
            By::Key(kind) => kind,
        };
        let roots = roots(form.root(), &sigstore);
        Self { form, sigstore, roots, key: SigningKey::generate(kind) }
    }

    /// A signature about to be made by whom the policy names.
    pub fn signing(&self) -> Signing<'_> {
        self.signing_by(&identity())
    }

    /// The same by another identity; a key is the same key.
    pub fn signing_by(&self, identity: &Identity) -> Signing<'_> {
        let signing = match self.form.by {
            By::Certificate => self.sigstore.signing(identity),
            By::Key(_) => self.sigstore.signing_with(&self.key),
        };
        match self.form.entry {
            Some(kind) => signing.entry(kind),
            None => signing,
        }
    }

    /// The policy that what is right satisfies.
    pub fn policy(&self) -> Value {
        let mut signer = match self.form.by {
            By::Certificate => json!({"github": {
                "repository": "acme/app", "workflow": WORKFLOW, "refs": ["refs/heads/main"], "triggers": ["push"],
            }}),
            By::Key(_) => json!({"publicKey": {"pem": self.key.public_pem()}}),
        };
        signer["name"] = json!("ci");
        signer["trustRoot"] = json!(self.form.root());
        json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
            "spec": {"images": {"include": ["ghcr.io/acme/app"]}, "tags": "Allow", "signers": [signer]},
        })
    }

    pub fn judge(&self, signed: &Signed) -> ImageVerdict {
        judge(&self.roots, &self.policy(), &self.form.of(signed))
    }

    #[track_caller]
    pub fn admitted(&self, signed: &Signed) {
        let verdict = self.judge(signed);
        assert_eq!(verdict.outcome, Outcome::Allow, "{:?}: {:?}", self.form, verdict.problems);
    }
}

/// From the bytes of one attestation to the verdict about the image that it is found at.
pub fn judge(roots: &dyn TrustRoots, policy: &Value, raw: &RawAttestation) -> ImageVerdict {
    let compiled = compile(policy, &NoKeys);
    assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
    let now = Timestamp::now();
    let attestation: Attestation = roots.verify(raw, now);
    let asked = asked(compiled.entry);
    let mut key_checks = HashMap::new();
    if let Finding::Keyed(keyed) = &attestation.finding {
        for key in asked.keys() {
            let check = Arc::new(roots.check_key(raw, key, now));
            key_checks.insert((key.id(), keyed.fingerprint), check);
        }
    }
    let evidence = SubjectEvidence { attestations: vec![Arc::new(attestation)], gaps: Vec::new() };
    let facts = ImageFacts {
        digest: image(),
        root: Arc::new(Root::Manifest(None)),
        evidence: HashMap::from([(image(), Arc::new(evidence))]),
        elsewhere: HashMap::new(),
        key_checks,
        trust_roots: None,
    };
    evaluate(&asked, &Platforms::Unknown, &facts, now)
}

fn asked(policy: PolicyEntry) -> ImagePlan {
    let set = PolicySet::new(vec![policy], 1);
    match plan(
        &set,
        Scope::Everywhere,
        Unmatched::Deny,
        Stage::Final,
        &format!("ghcr.io/acme/app:v1@{}", image()),
    ) {
        Plan::Ask(asked) => asked,
        Plan::Settled(verdict) => panic!("{verdict:?}"),
    }
}

/// That it is denied for this one reason, which is told in these words.
#[track_caller]
pub fn denied(verdict: &ImageVerdict, reason: Reason, words: &str, case: &dyn std::fmt::Debug) {
    assert_eq!(verdict.outcome, Outcome::Deny, "{case:?} is not denied");
    let [problem] = verdict.problems.as_slice() else { panic!("{case:?}: {:?}", verdict.problems) };
    assert!(problem.found.contains(words), "{case:?}: {} – {}", problem.reason, problem.found);
    assert_eq!(problem.reason, reason, "{case:?}: {}", problem.found);
    assert!(problem.found.len() < 400 && !problem.found.contains('\n'), "{}", problem.found);
    assert!(verdict.proofs.is_empty(), "{case:?}");
}
