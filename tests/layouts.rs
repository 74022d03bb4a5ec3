//! Layout folders that are written by hand: what is in them is found wherever it is, and what is broken in them spoils nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::{Reference, Repository},
    },
    gather::ports::{Attestations, Images},
    registry::Layout,
};
use serde_json::{Value, json};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bonafide-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        Self(path)
    }

    fn put(&self, value: &Value) -> Digest {
        let bytes = value.to_string();
        let digest = Digest::of(bytes.as_bytes());
        std::fs::write(self.0.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    }

    fn open(&self, index: &Value) -> Result<Layout, String> {
        std::fs::write(self.0.join("index.json"), index.to_string()).unwrap();
        Layout::open(&self.0)
            .map_err(|error| error.to_string().replace(&self.0.display().to_string(), "FOLDER"))
    }

    fn message<T: std::fmt::Debug>(&self, result: Result<T, FetchError>) -> (FetchErrorKind, String) {
        let error = result.unwrap_err();
        (error.kind, error.detail.replace(&self.0.display().to_string(), "FOLDER"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn repository() -> Repository {
    "ghcr.io/o/a".parse().unwrap()
}

fn tagged(tag: &str) -> Reference {
    format!("ghcr.io/o/a:{tag}").parse().unwrap()
}

fn image(folder: &Folder) -> Digest {
    folder.put(&json!({"config": {"digest": folder.put(&json!({}))}, "layers": []}))
}

fn referrer(folder: &Folder, subject: Digest) -> Digest {
    folder.put(&json!({"layers": [], "subject": {"digest": subject}, "artifactType": "x"}))
}

async fn referrers(layout: &Layout, subject: &Digest) -> Vec<Digest> {
    let found = layout.referrers(&repository(), subject).await.unwrap();
    found.into_iter().map(|referrer| referrer.digest).collect()
}

#[tokio::test]
async fn a_referrer_is_found_however_deep_it_is_listed() {
    let folder = Folder::new("deep");
    let leaf = image(&folder);
    let attached = referrer(&folder, leaf);
    let mut inner =
        folder.put(&json!({"mediaType": OCI_INDEX, "manifests": [{"digest": leaf}, {"digest": attached}]}));
    for depth in 0..6 {
        let layout = folder.open(&json!({"manifests": [{"digest": inner}]})).unwrap();
        assert_eq!(layout.image().unwrap(), inner);
        let expected = if depth < 4 { vec![attached] } else { Vec::new() };
        assert_eq!(referrers(&layout, &leaf).await, expected, "{depth}");
        inner = folder.put(&json!({"mediaType": OCI_INDEX, "manifests": [{"digest": inner}]}));
    }
    // Nor does it make a difference what else lists it.
    let both = json!({"manifests": [{"digest": inner}, {"digest": attached}, {"digest": leaf}]});
    let layout = folder.open(&both).unwrap();
    assert_eq!(referrers(&layout, &leaf).await, [attached]);
}

#[tokio::test]
async fn c1_a_folder_lists_the_likeliest_first_as_a_registry_does() {
    let folder = Folder::new("many");
    let leaf = image(&folder);
    let attach = |kind: &str, n: u32, annotations: Value| {
        folder.put(&json!({"layers": null, "n": n, "subject": {"digest": leaf}, "artifactType": kind, "annotations": annotations}))
    };
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let provenance =
        attach(bundle, 0, json!({"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"}));
    let other = attach(bundle, 1, Value::Null);
    let mut listed: Vec<Digest> = vec![leaf, provenance, other];
    listed.extend((0..300).map(|n| attach("application/spdx+json", n, Value::Null)));
    let manifests: Vec<Value> = listed.iter().map(|digest| json!({"digest": digest})).collect();
    let layout = folder.open(&json!({"manifests": manifests})).unwrap();
    let found = referrers(&layout, &leaf).await;
    assert_eq!((found.len(), &found[..2]), (302, &[provenance, other][..]));
}

#[tokio::test]
async fn c8_null_is_nothing_in_a_folder_too() {
    let folder = Folder::new("null");
    let leaf = image(&folder);
    let list = folder.put(&json!({"manifests": null}));
    let tag = format!("sha256-{}", leaf.hex());
    let index = json!({"manifests": [{"digest": leaf, "annotations": null}, {"digest": list, "annotations": {REF_NAME: tag, "x": null}}]});
    let layout = folder.open(&index).unwrap();
    assert_eq!(layout.image().unwrap(), leaf);
    assert!(referrers(&layout, &leaf).await.is_empty());
    assert!(folder.open(&json!({"manifests": null})).unwrap().image().is_err());
}

#[test]
fn a6_the_index_of_a_folder_is_utf8() {
    let folder = Folder::new("utf8");
    let leaf = image(&folder);
    let good = folder.open(&json!({"manifests": [{"digest": leaf}], "x": "_"}));
    assert_eq!(good.unwrap().image().unwrap(), leaf);
    let path = folder.0.join("index.json");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'_').unwrap();
    bytes[at] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    assert!(Layout::open(&folder.0).unwrap_err().to_string().contains("it is not UTF-8"));
}

#[tokio::test]
async fn a_manifest_whose_bytes_are_not_its_digests_tells_nothing() {
    let folder = Folder::new("bytes");
    let leaf = image(&folder);
    let attached = referrer(&folder, leaf);
    let index = json!({"manifests": [{"digest": leaf}, {"digest": attached}]});
    assert_eq!(referrers(&folder.open(&index).unwrap(), &leaf).await, [attached]);
    let file = folder.0.join("blobs/sha256").join(attached.hex());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text} ")).unwrap();
    assert!(referrers(&folder.open(&index).unwrap(), &leaf).await.is_empty());
}

#[tokio::test]
async fn an_entry_without_a_digest_spoils_nothing_but_itself() {
    let folder = Folder::new("entry");
    let good = image(&folder);
    let attached = referrer(&folder, good);
    let entry = |digest: &dyn ToString, name: &str| json!({"digest": digest.to_string(), "annotations": {REF_NAME: name}});
    let listed = [entry(&good, "v1"), json!({"digest": attached})];
    let with = |bad: Value| json!({"manifests": [listed[0], bad, listed[1]]});

    let layout = folder.open(&with(entry(&"sha256:00", "v2"))).unwrap();
    assert_eq!(layout.resolve(&tagged("v1")).await.unwrap(), good);
    assert_eq!(referrers(&layout, &good).await, [attached]);
    let error = folder.message(layout.resolve(&tagged("v2")).await);
    let told = "the entry v2 of the index of FOLDER cannot be used: \"sha256:00\" is no digest";
    assert_eq!(error, (FetchErrorKind::Malformed, told.to_owned()));

    // What could be an attestation of an image that has no other leaves it open whether there is one.
    let nameless = json!({"manifests": [listed[0], {"digest": "x"}]});
    let layout = folder.open(&nameless).unwrap();
    let error = folder.message(layout.referrers(&repository(), &good).await);
    let told = "an entry of the index of FOLDER cannot be used: \"x\" is no digest";
    assert_eq!(error, (FetchErrorKind::Malformed, told.to_owned()));
    assert_eq!(referrers(&folder.open(&with(json!({"digest": "x"}))).unwrap(), &good).await, [attached]);

    let att = format!("sha256-{}.att", good.hex());
    let cosign = json!({"digest": "x", "annotations": {"kind": "dev.cosignproject.cosign/atts"}});
    for (bad, is_error) in [
        (entry(&"x", &att), true),
        (cosign, true),
        (entry(&"x", "v2"), false),
        (json!({"digest": "x", "annotations": {"kind": "dev.cosignproject.cosign/sigs"}}), false),
    ] {
        let layout = folder.open(&with(bad.clone())).unwrap();
        let found = layout.tagged(&repository(), &att).await;
        assert_eq!(found.as_ref().map_err(|error| error.kind).is_err(), is_error, "{bad}");
    }
    assert!(folder.open(&json!({"manifests": [{"digest": "x"}]})).unwrap().image().is_err());
}

#[test]
fn a_folder_that_is_none_says_what_it_lacks() {
    let folder = Folder::new("none");
    let message = |index: Value| folder.open(&index).unwrap_err();
    assert_eq!(message(json!({})), "FOLDER/index.json is no OCI layout: it has no list `manifests`");
    assert!(message(json!([])).contains("is no OCI layout"));
    let none = folder.open(&json!({"manifests": []})).unwrap().image().unwrap_err().to_string();
    assert!(none.ends_with("has no image"), "{none}");
    let leaves = |count: usize| {
        let entry = |n: usize| json!({"digest": Digest::of(&n.to_be_bytes())});
        let inner = folder.put(&json!({"manifests": (0..count).map(entry).collect::<Vec<_>>()}));
        folder.open(&json!({"manifests": [{"digest": inner}]}))
    };
    assert!(leaves(999).is_ok());
    assert!(leaves(1000).unwrap_err().contains("more than 1000 manifests"));
}
