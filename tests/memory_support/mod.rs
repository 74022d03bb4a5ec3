//! Images that are made to cost as much as they can: in each dimension as many attestations as are read, each as large as is read.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::{Fault, On, Registry},
    scenario::signer,
    sigstore::{Build, BundleVersion, KeyKind, Signed, SigningKey, Sigstore, statement_v1},
};
use serde_json::{Value, json};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const REPO: &str = "acme/app";

pub struct World {
    pub registry: Registry,
    pub image: Pushed,
    pub sigstore: Sigstore,
    pub key: SigningKey,
}

pub struct Attack {
    pub name: &'static str,
    /// Whether it is admitted: what is too much of a good thing is left out, and the rest counts.
    pub admitted: bool,
    /// What is told of it where it is not.
    pub says: &'static str,
    pub image: fn() -> Image,
    pub prepare: fn(&World),
}

fn statement_about(digest: &str) -> Value {
    statement_v1(&[("app", digest.trim_start_matches("sha256:"))], &Build::of(&signer()))
}

impl World {
    pub async fn new(image: Image) -> Self {
        let registry = Registry::start().await;
        let image = image.push(&registry, REPO, "v1");
        Self { registry, image, sigstore: Sigstore::new(), key: SigningKey::generate(KeyKind::P256) }
    }

    fn statement(&self) -> Value {
        statement_about(&self.image.digest)
    }

    fn sign(&self, statement: impl AsRef<[u8]>) -> Signed {
        self.sigstore.sign_statement(&signer(), statement)
    }

    fn attach(&self, statement: &str) {
        self.attach_bundle(self.sign(statement).bundle_json(BundleVersion::V03));
    }

    fn attach_bundle(&self, bundle: String) {
        attach_bundle(&self.registry, REPO, &self.image.digest, bundle);
    }

    /// A statement with this text at a place of it.
    fn with(&self, at: &str, text: &str) -> String {
        let mut statement = self.statement();
        let (parent, field) = at.rsplit_once('/').unwrap();
        statement.pointer_mut(parent).unwrap()[field] = json!("\u{1}");
        statement.to_string().replace(r#""\u0001""#, text)
    }

    fn attach_with(&self, at: &str, text: &str) {
        self.attach(&self.with(at, text));
    }

    /// As many statements with it as there is room for.
    fn attach_many(&self, at: &str, text: &str) {
        let length = self.with(at, text).len() * 4 / 3 + 4096;
        for n in 0..(19 << 20) / length {
            self.attach(&self.with(at, text).replacen('0', &n.to_string(), 1));
        }
    }
}

/// An object of short fields, which takes the most memory for its length.
fn fields(count: usize) -> String {
    let fields = (0..count).fold(String::new(), |mut all, n| {
        write!(all, r#","{n:x}":0"#).unwrap();
        all
    });
    format!(r#"{{"zz":0{fields}}}"#)
}

fn list(count: usize, item: &str) -> String {
    format!("[{item}{}]", format!(",{item}").repeat(count))
}

const FIELDS: usize = 79_700;

fn single() -> Image {
    Image::single("linux/amd64")
}

/// An index of more manifests than there is room for what is attached to them.
fn wide() -> Image {
    let platforms: Vec<String> = (0..80).map(|n| format!("linux/arch{n}")).collect();
    Image::index(&platforms.iter().map(String::as_str).collect::<Vec<_>>())
}

const fn admitted(name: &'static str, prepare: fn(&World)) -> Attack {
    Attack { name, admitted: true, says: "", image: single, prepare }
}

const fn denied(name: &'static str, says: &'static str, prepare: fn(&World)) -> Attack {
    Attack { name, admitted: false, says, image: single, prepare }
}

pub const ATTACKS: [Attack; 21] = [
    admitted("nothing out of the ordinary", |world| world.attach(&world.statement().to_string())),
    admitted("fields of provenance", |world| world.attach_many("/predicate/x", &fields(FIELDS))),
    admitted("fields of a source", |world| {
        world.attach_many("/predicate/buildDefinition/externalParameters/workflow/x", &fields(FIELDS));
    }),
    admitted("dependencies", |world| {
        let one = r#"{"digest":{"a":"0"}}"#;
        world.attach_many("/predicate/buildDefinition/resolvedDependencies", &list(8_500, one));
    }),
    admitted("numbers", |world| world.attach_many("/predicate/x", &list(FIELDS, "0"))),
    admitted("objects", |world| world.attach_many("/predicate/x", &list(15_900, r#"{"a":0}"#))),
    denied("subjects", "its statement names no sha256 or sha512 digest of a subject", |world| {
        world.attach_many("/subject", &list(8_500, r#"{"digest":{"sha1":"0"}}"#));
    }),
    admitted("fields of a bundle", |world| {
        world.attach(&world.statement().to_string());
        let more = fields(FIELDS);
        for n in 0..15 {
            let bundle = world.sign(world.with("/x", &n.to_string())).bundle_json(BundleVersion::V03);
            world.attach_bundle(format!("{},\"x\":{more}}}", &bundle[..bundle.len() - 1]));
        }
    }),
    denied("300 attestations", "not all attestations were inspected", |world| {
        for n in 0..300 {
            world.attach(&json!({"n": n}).to_string());
        }
    }),
    admitted("payloads", |world| {
        for size in [6_000_000, 8 << 20] {
            let mut text = world.statement().to_string();
            text.push_str(&" ".repeat(size - text.len()));
            // JSON may write any character as a number: this takes a copy to read.
            let bundle = world.sign(text).bundle_json(BundleVersion::V03);
            world.attach_bundle(bundle.replacen("ICAg", "\\u0049CAg", 1));
        }
    }),
    admitted("texts of provenance", |world| {
        for size in [6_000_000, (8 << 20) - 5000] {
            world.attach_with("/predicate/x", &format!("\"{}\"", "\\n".repeat(size / 2)));
        }
    }),
    denied("a million brackets", "nested deeper than 128 levels", |world| {
        world.attach_with("/predicate/x", &"[".repeat(1_000_000));
    }),
    admitted("signatures of an envelope", |world| {
        let mut text = world.statement().to_string();
        text.push_str(&" ".repeat(7_000_000 - text.len()));
        let (envelope, annotations) = world.sigstore.signing_with(&world.key).sign(text).cosign_att_layer();
        let mut envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let one = envelope["signatures"][0].clone();
        envelope["signatures"] = json!(vec![one; 16]);
        let layer = (envelope.to_string().into_bytes(), annotations);
        attach_att(&world.registry, REPO, &world.image.digest, &[layer]);
    }),
    denied("10,000 signatures", "found 10000", |world| {
        let (envelope, annotations) = world.sign(world.statement().to_string()).cosign_att_layer();
        let mut envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let one = envelope["signatures"][0].clone();
        envelope["signatures"] = json!(vec![one; 10_000]);
        let layer = (envelope.to_string().into_bytes(), annotations);
        attach_att(&world.registry, REPO, &world.image.digest, &[layer]);
    }),
    denied("1,500 log entries", "the bundle has 1500 log entries; at most 8 are read", |world| {
        let mut bundle = world.sign(world.statement().to_string()).bundle(BundleVersion::V03);
        let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
        *entries = json!(vec![entries[0].clone(); 1500]);
        world.attach_bundle(bundle.to_string());
    }),
    denied("bodies of log entries", "the body of one of its log entries is larger than 256 KiB", |world| {
        let mut bundle = world.sign(world.statement().to_string()).bundle(BundleVersion::V03);
        let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
        entries[0]["kindVersion"] = json!({"kind": "hashedrekord", "version": "0.0.2"});
        let body = format!(r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}}"#, list(900_000, "0"));
        entries[0]["canonicalizedBody"] = json!(STANDARD.encode(body));
        *entries = json!(vec![entries[0].clone(); 6]);
        world.attach_bundle(bundle.to_string());
    }),
    admitted("certificates", |world| {
        let mut bundle = world.sign(world.statement().to_string()).bundle(BundleVersion::V02);
        let certificates = &mut bundle["verificationMaterial"]["x509CertificateChain"]["certificates"];
        let large = json!({"rawBytes": STANDARD.encode(vec![0x30; 64 << 10])});
        let mut all = vec![large; 9];
        all.insert(0, certificates[0].clone());
        *certificates = json!(all);
        for n in 0..20 {
            bundle["x"] = json!(n);
            world.attach_bundle(bundle.to_string());
        }
    }),
    denied("bodies of values", "proof does not verify", |world| {
        let mut bundle = world.sign(world.statement().to_string()).bundle(BundleVersion::V03);
        let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
        entries[0]["kindVersion"] = json!({"kind": "hashedrekord", "version": "0.0.2"});
        let body = format!(r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}}"#, fields(28_000));
        entries[0]["canonicalizedBody"] = json!(STANDARD.encode(body));
        *entries = json!(vec![entries[0].clone(); 8]);
        world.attach_bundle(bundle.to_string());
    }),
    denied("manifests of referrers", "larger than the 20971520 bytes", |world| {
        let layers = list(
            9_000,
            &json!({"digest": format!("sha256:{}", "0".repeat(64)), "annotations": {"": ""}}).to_string(),
        );
        for n in 0..6 {
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","subject":{{"digest":"{}","mediaType":"{OCI_MANIFEST}","size":1}},"layers":{layers}}}"#,
                world.image.digest
            );
            let manifest = format!("{manifest}{}", " ".repeat((4 << 20) - manifest.len() - n));
            world.registry.push_manifest(REPO, None, OCI_MANIFEST, manifest);
        }
    }),
    Attack {
        name: "manifests of an index",
        admitted: false,
        says: "MiB that are held in one go",
        image: wide,
        prepare: |world| {
            for (_, digest) in &world.image.platforms {
                let mut statement = statement_about(digest);
                statement["predicate"]["x"] = json!([]);
                let text = statement.to_string().replace(r#""x":[]"#, &format!(r#""x":{}"#, fields(38_000)));
                let bundle = world.sign(text).bundle_json(BundleVersion::V03);
                attach_bundle(&world.registry, REPO, digest, bundle);
            }
        },
    },
    denied("answers without end", "bytes that are read of the blob", |world| {
        world.attach(&world.statement().to_string());
        world.registry.fault(On::blobs(), Fault::Endless);
    }),
];
