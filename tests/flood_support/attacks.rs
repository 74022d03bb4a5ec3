//! The attacks. Each has what is there before the process starts, and what is done to it while it serves.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bonafide_kit::{
    apiserver::Listed,
    image::{Image, attach_bundle},
    registry::digest_of,
    scenario::{WORKFLOW, bundle},
    sigstore::{BundleVersion, Identity},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    client::Target,
    objects::{fields, pod, review, text},
    world::World,
};

/// How long a client that says nothing stays.
const IDLE: Duration = Duration::from_secs(5);
/// What an API server stores of one object, and what it sends of it where it escapes each character.
const STORED: usize = 1_400_000;

/// An attack.
#[derive(Clone, Copy)]
pub struct Attack {
    pub name: &'static str,
    /// What is there before the process starts.
    pub prepare: fn(&World),
    /// What is done while it serves, until it is over.
    pub run: fn(&World, &Target, &Arc<AtomicBool>),
}

/// Large pods that are denied.
pub const DENIED_PODS: Attack =
    Attack { name: "large pods that are denied", prepare: nothing, run: denied_pods };
/// Policies whose patterns are large once they are compiled.
pub const LARGE_PATTERNS: Attack =
    Attack { name: "large patterns in policies", prepare: patterns, run: none };
/// HTTP/2 connections of streams that send a head and nothing else.
pub const SILENT_STREAMS: Attack =
    Attack { name: "streams that send nothing", prepare: nothing, run: silent_streams };
/// Large pods that no scheduler has bound yet, listed at the start and told by the watch.
pub const PENDING_PODS: Attack =
    Attack { name: "large pending pods", prepare: pending_pods, run: more_pending_pods };
/// One index of many manifests under many tags, named by many policies.
pub const MANY_TAGS: Attack = Attack { name: "an index under many tags", prepare: index, run: tags };
/// Many policies for one image, each with conditions that take long and with other repositories.
pub const MANY_POLICIES: Attack =
    Attack { name: "many policies for one image", prepare: many_policies, run: reviews_of_many_policies };
/// Reviews that wait for a registry, and connections that say nothing.
pub const IN_FLIGHT: Attack =
    Attack { name: "large reviews in flight, idle connections", prepare: nothing, run: in_flight };
/// Images whose attestations are large.
pub const LARGE_ATTESTATIONS: Attack =
    Attack { name: "large attestations", prepare: attestations, run: reviews_of_attestations };
/// Objects of every kind as large as they are stored.
pub const LARGE_OBJECTS_OF_ALL_KINDS: Attack =
    Attack { name: "large objects of every kind", prepare: large_objects, run: large_secrets };

/// All of them.
pub const ATTACKS: [Attack; 9] = [
    DENIED_PODS,
    LARGE_PATTERNS,
    SILENT_STREAMS,
    PENDING_PODS,
    MANY_TAGS,
    MANY_POLICIES,
    IN_FLIGHT,
    LARGE_ATTESTATIONS,
    LARGE_OBJECTS_OF_ALL_KINDS,
];

fn nothing(_: &World) {}

fn none(_: &World, _: &Target, _: &Arc<AtomicBool>) {}

/// Does it again and again, so many times at once, until the attack is over.
fn attack<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    over: &Arc<AtomicBool>,
    at_once: usize,
    attack: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let number = Arc::new(AtomicUsize::new(0));
    for _ in 0..at_once {
        let (over, number, attack) = (Arc::clone(over), Arc::clone(&number), attack.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                // What comes of an attack is nothing to whoever attacks.
                let _ = attack(number.fetch_add(1, Ordering::Relaxed)).await;
                sleep(Duration::from_millis(200)).await;
            }
        });
    }
}

/// The review of an object with a text in place of the only "MARK" in it.
fn filled(namespace: &str, object: &Value, filling: &Bytes) -> Vec<u8> {
    let review = review(namespace, object).to_string();
    let (before, after) = review.split_once("MARK").unwrap();
    [before.as_bytes(), filling, after.as_bytes()].concat()
}

/// Pods of 2.8 MB that are denied, each another one.
fn denied_pods(world: &World, target: &Target, over: &Arc<AtomicBool>) {
    let (target, image) = (target.clone(), world.scenario.image("bare").to_owned());
    let (long, many) = (text("x", 2_800_000), fields(2_800_000));
    attack(over, 4, move |n| {
        let mut object = pod(&[&image]);
        object["metadata"]["uid"] = json!(format!("denied-{n}"));
        let (target, image) = (target.clone(), image.clone());
        let filling = if n % 2 == 0 { long.clone() } else { many.clone() };
        async move {
            let review = if n % 2 == 0 {
                object["spec"]["containers"] =
                    json!([{"name": "c", "image": image, "env": [{"name": "e", "value": "MARK"}]}]);
                filled("shop", &object, &filling)
            } else {
                object["metadata"]["annotations"] = json!({"a": "MARK"});
                let review = filled("shop", &object, &Bytes::from_static(b"\",MARK,\"b\":\""));
                let review = String::from_utf8(review).unwrap();
                review.replacen("MARK", std::str::from_utf8(&filling).unwrap(), 1).into_bytes()
            };
            target.review(10, &review).await.map(drop)
        }
    });
}

/// A policy of 64 signers, each of whom takes a large pattern to compare with.
fn with_patterns(world: &World, namespace: &str, n: usize) -> Value {
    let signer = |signer: usize| {
        let regex = format!(r"\pL{{5}}{n}x{signer}");
        json!({"name": format!("s{signer}"), "certificate": {"issuer": "https://i.example", "subjectRegex": regex}})
    };
    let signers: Vec<Value> = (0..64).map(signer).collect();
    world.policy(namespace, &format!("p{n}"), |spec| spec["signers"] = json!(signers))
}

fn patterns(world: &World) {
    for n in 0..PATTERNS {
        world.add("provenancepolicies", &with_patterns(world, "patterns", n));
    }
    for namespace in 0..PATTERN_NAMESPACES {
        let name = format!("patterns-{namespace}");
        world.add("namespaces", &World::namespace(&name));
        world.add("provenancepolicies", &with_patterns(world, &name, namespace % 3));
    }
}

/// How many policies with large patterns one namespace has, and how many others have one. A program that is not optimized takes its time.
const PATTERNS: usize = 15;
const PATTERN_NAMESPACES: usize = if cfg!(debug_assertions) { 20 } else { 100 };
/// How many large objects there are of each kind.
const LARGE_OBJECTS: usize = if cfg!(debug_assertions) { 20 } else { 40 };

/// Streams that send a head and nothing else, on connections of one peer.
fn silent_streams(_: &World, target: &Target, over: &Arc<AtomicBool>) {
    let target = target.clone();
    attack(over, 8, move |_| {
        let target = target.clone();
        async move {
            let tls = target.connect(2, &target.http2).await?;
            let (mut client, connection) = h2::client::handshake(tls).await.map_err(std::io::Error::other)?;
            let driving = tokio::spawn(connection);
            let mut streams = Vec::new();
            for _ in 0..600 {
                let ready = tokio::time::timeout(Duration::from_millis(500), client.clone().ready()).await;
                let Ok(Ok(ready)) = ready else { break };
                client = ready;
                let request = axum::http::Request::post("https://localhost/validate")
                    .header("content-type", "application/json")
                    .header("x", "x".repeat(4000));
                let Ok(stream) = client.send_request(request.body(()).unwrap(), false) else { break };
                streams.push(stream);
            }
            sleep(Duration::from_millis(2500)).await;
            driving.abort();
            Ok(())
        }
    });
}

fn pending(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": name},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "e", "value": "MARK"}]}]}})
}

/// Pods of the size that is stored, some of which are sent with six bytes for each character, and some of very many short fields.
fn pending_pods(world: &World) {
    let plain = text("x", STORED);
    for n in 0..36 {
        let pod = pending("pending", &format!("p{n}"));
        world.api.add("pods", Listed::new("pending", &pod).with("MARK", &plain));
    }
    let escaped = text(r"\u003c", 6 * STORED);
    for n in 0..2 {
        let pod = pending("pending", &format!("escaped{n}"));
        world.api.add("pods", Listed::new("pending", &pod).with("MARK", &escaped));
    }
    let containers = text(r#"{"name":"c","image":"i"},"#, STORED);
    for n in 0..4 {
        let mut pod = pending("pending", &format!("wide{n}"));
        pod["spec"]["containers"] = json!(["MARK", {"name": "c", "image": "i"}]);
        world.api.add("pods", Listed::new("pending", &pod).with("\"MARK\",", &containers));
    }
    let some = text("x", STORED / 100);
    for n in 0..100 {
        let namespace = format!("pending-{n}");
        let pod = pending(&namespace, &format!("of-many-{n}"));
        world.api.add("pods", Listed::new(&namespace, &pod).with("MARK", &some));
    }
}

/// More of them, which a watch tells of.
fn more_pending_pods(world: &World, _: &Target, over: &Arc<AtomicBool>) {
    let (api, plain) = (world.api.clone(), text("x", STORED));
    attack(over, 1, move |n| {
        if n < 20 {
            let pod = pending("pending", &format!("later{n}"));
            api.add("pods", Listed::new("pending", &pod).with("MARK", &plain));
        }
        async { Ok(()) }
    });
}

const INDEX: &str = "evil/index";

/// An index of 256 manifests, with the attestations of a stranger, under 128 tags; and ten policies for it in each of four namespaces.
fn index(world: &World) {
    let registry = &world.scenario.registry;
    let platforms: Vec<String> = (0..256).map(|n| format!("linux/arch{n}")).collect();
    let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
    let pushed = Image::index(&platforms).push(registry, INDEX, "t0");
    for n in 1..128 {
        registry.tag(INDEX, &format!("t{n}"), &pushed.digest);
    }
    let stranger = Identity::github("mallory/shop", WORKFLOW, "refs/heads/main", "push");
    for n in 0..8_u8 {
        let about = if n == 0 { pushed.digest.clone() } else { digest_of(&[n]) };
        let bundle = bundle(&world.scenario.sigstore, &stranger, "evil", &about);
        attach_bundle(registry, INDEX, &pushed.digest, bundle);
    }
    for namespace in 0..4 {
        for n in 0..10 {
            let policy = world.policy(&format!("tags-{namespace}"), &format!("p{n}"), |spec| {
                spec["images"]["include"] = json!([format!("{}/**", registry.host())]);
                let subject = format!("https://other.example/{}", "x".repeat(900));
                let certificate = json!({"issuer": "https://other.example", "subject": subject});
                spec["signers"] = json!([{"name": "other", "certificate": certificate}]);
            });
            world.add("provenancepolicies", &policy);
        }
    }
}

fn tags(world: &World, target: &Target, over: &Arc<AtomicBool>) {
    let (target, registry) = (target.clone(), world.scenario.registry.host().to_owned());
    attack(over, 4, move |n| {
        let images: Vec<String> = (0..128).map(|tag| format!("{registry}/{INDEX}:t{tag}")).collect();
        let object = pod(&images.iter().map(String::as_str).collect::<Vec<_>>());
        let target = target.clone();
        async move {
            let review = review(&format!("tags-{}", n % 4), &object).to_string();
            target.review(11, review.as_bytes()).await.map(drop)
        }
    });
}

/// 200 policies for one image, each with other repositories and with conditions that take as many steps as they may.
fn many_policies(world: &World) {
    let numbers: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let list = format!("[{}]", numbers.join(","));
    let expression = format!("{list}.all(a, {list}.all(b, {list}.all(c, a + b + c >= 0)))");
    let condition = json!({"expression": expression, "message": "never"});
    for n in 0..200 {
        let policy = world.policy("policies", &format!("p{n}"), |spec| {
            let host = world.scenario.registry.host();
            let repositories: Vec<String> = (0..8).map(|other| format!("{host}/other/{n}-{other}")).collect();
            spec["attestations"] = json!({"repositories": repositories});
            spec["provenance"] = json!({"conditions": vec![condition.clone(); 16]});
        });
        world.add("provenancepolicies", &policy);
    }
}

fn reviews_of_many_policies(world: &World, target: &Target, over: &Arc<AtomicBool>) {
    let (target, image) = (target.clone(), world.scenario.image("shop").to_owned());
    attack(over, 16, move |n| {
        let mut object = pod(&[&image]);
        object["metadata"]["labels"] = json!({"n": n.to_string()});
        let target = target.clone();
        async move {
            let review = review("policies", &object).to_string();
            target.review(12, review.as_bytes()).await.map(drop)
        }
    });
}

/// Reviews that wait for a registry which never answers, reviews as large as they come, and connections that say nothing.
fn in_flight(world: &World, target: &Target, over: &Arc<AtomicBool>) {
    let (silent, long) = (world.silent, text("x", 8 << 20));
    let to = target.clone();
    attack(over, 8, move |n| {
        let mut object = pod(&[&format!("{silent}/app:large{n}")]);
        object["metadata"]["annotations"] = json!({"a": "MARK"});
        let (target, long) = (to.clone(), long.clone());
        async move { target.review(4, &filled("silent", &object, &long)).await.map(drop) }
    });
    let (to, some) = (target.clone(), text("x", 500_000));
    attack(over, 125, move |n| {
        let mut object = pod(&[&format!("{silent}/app:v{n}")]);
        object["metadata"]["annotations"] = json!({"a": "MARK"});
        let (target, some) = (to.clone(), some.clone());
        async move { target.review(5, &filled("silent", &object, &some)).await.map(drop) }
    });
    let to = target.clone();
    attack(over, 2, move |_| wide(to.clone(), silent));
    let to = target.clone();
    attack(over, 2, move |n| {
        let review = review(&format!("n{n}"), &pod(&["good"])).to_string();
        let review = review.replace("CreateOptions", &"x".repeat(35 << 20));
        let target = to.clone();
        async move { target.review(7, review.as_bytes()).await.map(drop) }
    });
    for peer in [20, 21, 22, 23] {
        let to = target.clone();
        attack(over, 500, move |_| {
            let target = to.clone();
            async move {
                let _connection = target.connect(peer, &target.http1).await?;
                sleep(IDLE).await;
                Ok(())
            }
        });
    }
    let policy =
        world.policy("silent", "later", |spec| spec["images"]["include"] = json!([format!("{silent}/**")]));
    world.add("provenancepolicies", &policy);
}

/// A pod of very many containers.
async fn wide(target: Target, registry: SocketAddr) -> std::io::Result<()> {
    let container = |n| json!({"name": format!("c{n}"), "image": format!("{registry}/app:v1")});
    let containers: Vec<Value> = (0..16_000).map(container).collect();
    let mut object = pod(&[]);
    object["spec"]["containers"] = json!(containers);
    target.review(6, review("silent", &object).to_string().as_bytes()).await.map(drop)
}

const ATTESTED: &str = "evil/attested";

/// Images, each with attestations as large as they are read.
fn attestations(world: &World) {
    let registry = &world.scenario.registry;
    for n in 0..16 {
        let pushed = Image::single("linux/amd64").push(registry, ATTESTED, &format!("v{n}"));
        for part in 0..2 {
            let junk = format!("{n}-{part} {}", "x".repeat(6 << 20));
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
                "subject": [{"name": "a", "digest": {"sha256": pushed.digest.trim_start_matches("sha256:")}}],
                "predicate": {"buildDefinition": {"buildType": "b", "externalParameters": {"junk": junk}},
                    "runDetails": {"builder": {"id": "b"}}},
            });
            let stranger = Identity::github("mallory/shop", WORKFLOW, "refs/heads/main", "push");
            let signed = world.scenario.sigstore.sign_statement(&stranger, statement.to_string());
            attach_bundle(registry, ATTESTED, &pushed.digest, signed.bundle_json(BundleVersion::V03));
        }
    }
    for namespace in 0..4 {
        let policy = world.policy(&format!("attested-{namespace}"), "p", |spec| {
            spec["images"]["include"] = json!([format!("{}/**", registry.host())]);
        });
        world.add("provenancepolicies", &policy);
    }
}

fn reviews_of_attestations(world: &World, target: &Target, over: &Arc<AtomicBool>) {
    let (target, registry) = (target.clone(), world.scenario.registry.host().to_owned());
    attack(over, 16, move |n| {
        let object = pod(&[&format!("{registry}/{ATTESTED}:v{}", n % 16)]);
        let target = target.clone();
        async move {
            let review = review(&format!("attested-{}", n % 4), &object).to_string();
            target.review(14, review.as_bytes()).await.map(drop)
        }
    });
}

/// Objects of the size that is stored, of each kind that is followed.
fn large_objects(world: &World) {
    let labels = fields(STORED);
    let put = |kind, object: &Value| {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let filled = Bytes::from([b"{", labels.as_ref(), b"}"].concat());
        world.api.add(kind, Listed::new(namespace, object).with("\"MARK\"", &filled));
    };
    for n in 0..LARGE_OBJECTS {
        let mut policy = world.policy("objects", &format!("p{n}"), |_| {});
        policy["metadata"]["labels"] = json!("MARK");
        put("provenancepolicies", &policy);
        let name = format!("objects-{n}");
        let labelled = json!({"metadata": {"name": name, "uid": name, "labels": "MARK"}});
        put("namespaces", &labelled);
        put("nodes", &json!({"metadata": {"name": name, "uid": name, "annotations": "MARK"}}));
        put("runtimeclasses", &json!({"metadata": {"name": name, "annotations": "MARK"}, "handler": "h"}));
        put(
            "trustroots",
            &json!({"metadata": {"name": name, "uid": name, "generation": 1, "annotations": "MARK"}, "spec": {}}),
        );
    }
    // Credentials in base64, as a Secret has them.
    let registries = text("IiAiIDogIiIs", 1_000_000);
    for n in 0..100 {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "silent", "name": format!("s{n}")},
            "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "MARK"}});
        world.api.add("secrets", Listed::new("silent", &secret).with("MARK", &registries));
    }
    let silent = world.silent;
    let policy =
        world.policy("silent", "silent", |spec| spec["images"]["include"] = json!([format!("{silent}/**")]));
    world.add("provenancepolicies", &policy);
}

/// Pods that name large pull secrets.
fn large_secrets(world: &World, target: &Target, over: &Arc<AtomicBool>) {
    let (target, silent) = (target.clone(), world.silent);
    attack(over, 20, move |n| {
        let mut object = pod(&[&format!("{silent}/private:v{n}")]);
        let secrets: Vec<Value> =
            (0..16).map(|m| json!({"name": format!("s{}", (n * 16 + m) % 100)})).collect();
        object["spec"]["imagePullSecrets"] = json!(secrets);
        let target = target.clone();
        async move { target.review(13, review("silent", &object).to_string().as_bytes()).await.map(drop) }
    });
}
