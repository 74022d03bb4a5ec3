//! Inputs to begin with: small ones of every shape, and what the kit signs.

use bonafide_kit::{
    scenario::signer,
    sigstore::{Build, statement_v1, statement_v02},
};
use serde_json::{Value, json};

use super::signed::another_world;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "reference" => references(),
        "manifest_and_index" => manifests(),
        "bundle" => with_changes(another_world().bundles.iter().map(|bundle| bundle.as_bytes().to_vec())),
        "att_layer" => with_changes(another_world().layers.iter().map(|(envelope, annotations)| {
            let part = |name: &str| annotations.get(name).map(String::as_bytes).unwrap_or_default();
            [envelope, part("dev.sigstore.cosign/certificate"), part("dev.sigstore.cosign/bundle")].join(&0)
        })),
        "envelope" => with_changes(another_world().envelopes.iter().cloned()),
        "statement" => vec![statement_of(Build::of, statement_v1), statement_of(Build::of, statement_v02)],
        "predicate_v02" => vec![predicate(&statement_of(Build::of, statement_v02))],
        "predicate_v1" => vec![predicate(&statement_of(Build::of, statement_v1))],
        "certificate_extensions" => with_changes(another_world().certificates.iter().cloned()),
        "admission_review" => reviews(),
        "policy" => policies(),
        _ => Vec::new(),
    }
}

/// These, and changes of what each process signs for itself.
fn with_changes(seeds: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let changes =
        (0..8).flat_map(|which| [vec![0, which, 0, 0, 9, 9], vec![0, which, 1, 32, 200, 0, 3, 80, 0]]);
    seeds.chain(changes).collect()
}

fn references() -> Vec<Vec<u8>> {
    let digest = format!("ghcr.io/o/a:v1@{DIGEST}");
    let all = [
        "nginx",
        "GHCR.io:443/org/app:v1",
        "index.docker.io/nginx",
        "[0:0::1]:5000/a/b",
        "localhost/x__y",
        &digest,
    ];
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn manifests() -> Vec<Vec<u8>> {
    let index = "application/vnd.oci.image.index.v1+json";
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let leaf = json!({"mediaType": manifest, "digest": DIGEST, "size": 2, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}});
    let attestation = json!({"mediaType": manifest, "digest": DIGEST, "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": DIGEST}});
    let nested = json!({"mediaType": index, "digest": DIGEST});
    let config = json!({"os": "linux", "architecture": "amd64"});
    let single = json!({"mediaType": manifest, "config": {"digest": DIGEST}, "layers": []});
    let flat = json!({"schemaVersion": 2, "mediaType": index, "manifests": [leaf, attestation]});
    let deep = json!({"schemaVersion": 2, "mediaType": index, "manifests": [nested, leaf]});
    // Digests that pick one document or the other by their first byte.
    let deep = deep.to_string().replacen(DIGEST, &DIGEST.replace(":e3", ":00"), 1);
    let bytes = |documents: &[String]| documents.join("\0").into_bytes();
    let not_utf8 = |more: &[u8]| {
        let text = flat.to_string();
        [&text.as_bytes()[..text.len() - 1], more, b"}"].concat()
    };
    vec![
        not_utf8(b",\"x\":\"\xff\",\"Manifests\":[]"),
        not_utf8(b",\"\xff\":null"),
        not_utf8("\"manife\u{17f}ts\":null".as_bytes()),
        bytes(&[flat.to_string()]),
        bytes(&[single.to_string(), config.to_string()]),
        bytes(&[deep, flat.to_string()]),
    ]
}

fn statement_of<T>(
    build: impl Fn(&bonafide_kit::sigstore::Identity) -> T,
    write: impl Fn(&[(&str, &str)], &T) -> Value,
) -> Vec<u8> {
    write(&[("app", &"ab".repeat(32))], &build(&signer())).to_string().into_bytes()
}

fn predicate(statement: &[u8]) -> Vec<u8> {
    let statement: Value = serde_json::from_slice(statement).expect("the kit's statement");
    statement["predicate"].to_string().into_bytes()
}

fn reviews() -> Vec<Vec<u8>> {
    let spec = json!({"containers": [{"name": "a", "image": "r.example/a:v1"}], "initContainers": [{"name": "b", "image": "b"}],
        "ephemeralContainers": [{"name": "c", "image": "c"}], "volumes": [{"name": "d", "image": {"reference": "d"}}],
        "nodeSelector": {"kubernetes.io/arch": "arm64"}, "imagePullSecrets": [{"name": "s"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "p"}, "spec": {"template": {"spec": spec}}});
    let review = |group: &str, kind: &str, operation: &str, object: &Value| {
        let request = json!({"uid": "u", "kind": {"group": group, "version": "v1", "kind": kind}, "namespace": "n",
            "operation": operation, "object": object, "oldObject": null, "dryRun": false});
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        review.to_string().into_bytes()
    };
    vec![
        review("", "Pod", "CREATE", &pod),
        review("", "Pod", "UPDATE", &pod),
        review("apps", "Deployment", "CREATE", &deployment),
    ]
}

fn policies() -> Vec<Vec<u8>> {
    let files = [
        include_str!("../../policies/docker-github-builder.yaml"),
        include_str!("../../policies/github-attest-build-provenance.yaml"),
        include_str!("../../policies/slsa-github-generator-container.yaml"),
    ];
    let files = files.iter().map(|text| text.as_bytes().to_vec());
    // One that takes summaries alone.
    let summaries = "apiVersion: bonafide.dev/v1alpha1\nkind: ClusterProvenancePolicy\nmetadata: {name: p}\nspec:\n  images: {include: ['ghcr.io/o/**']}\n  \
        vsa:\n    verifierIds: ['https://verifier.example']\n    signers:\n      - {name: v, github: {repository: o/r, workflow: w.yml, refs: [refs/heads/main], triggers: [push]}}\n";
    files.chain([summaries.as_bytes().to_vec()]).collect()
}
