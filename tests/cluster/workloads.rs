//! What makes pods: refused at once where its image is, left as it is where not; and the policies that say so.

use std::time::{Duration, Instant};

use bonafide_kit::{
    plane::{Client, ControlPlane, Namespace, eventually},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{
    installation::{Installation, entries},
    objects,
    shared::alone,
    webhook::Webhook,
};

fn shop<'a>(plane: &'a ControlPlane, name: &str, world: &Scenario) -> Namespace<'a> {
    let namespace = plane.namespace(name);
    namespace.apply(&policy(name, world)).ok();
    eventually("the policy to be known", || refusal(plane, name, world.image("bare")).map(|_| ()));
    namespace
}

fn policy(namespace: &str, world: &Scenario) -> String {
    world.policy().replace("namespace: shop", &format!("namespace: {namespace}"))
}

/// Why a pod is refused, or what is made.
fn refusal(plane: &Client, namespace: &str, image: &str) -> Result<String, String> {
    let dry = ["--namespace", namespace, "create", "--dry-run=server", "-f", "-"];
    let ran = plane.kubectl_reading(&dry, &objects::pod("probe", image).to_string());
    if ran.worked { Err(ran.out) } else { Ok(ran.err) }
}

/// Objects that make pods of an image, with the field that names it.
fn workloads(image: &str) -> Vec<(Value, &'static str)> {
    let labels = json!({"app": "app"});
    let template = |restart: &str| {
        json!({"metadata": {"labels": labels},
            "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": image}]}})
    };
    let object = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": kind.to_lowercase()}, "spec": spec});
    let selected = json!({"selector": {"matchLabels": labels}, "template": template("Always")});
    let job = json!({"template": template("Never")});
    let cron = json!({"schedule": "* * * * *", "suspend": true, "jobTemplate": {"spec": job}});
    let in_template = "spec.template.spec.containers[0].image";
    vec![
        (object("apps/v1", "Deployment", selected.clone()), in_template),
        (object("apps/v1", "StatefulSet", selected.clone()), in_template),
        (object("apps/v1", "DaemonSet", selected), in_template),
        (object("batch/v1", "Job", job), in_template),
        (object("batch/v1", "CronJob", cron), "spec.jobTemplate.spec.template.spec.containers[0].image"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_pods_is_refused_by_field_or_left_as_it_is_and_its_pods_are_pinned() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "making", &world);
    let _webhook = release.replica("one");
    release.enforced();
    let _node = plane.node("making", "amd64");
    let shop = shop(&plane, "making-shop", &world);

    for (object, field) in workloads(world.image("bare")) {
        let refused = shop.apply(&object.to_string()).refused();
        assert!(refused.contains(field) && refused.contains("NoProvenance"), "{refused}");
    }
    let (repository, digest) = world.image("shop").split_once('@').unwrap();
    let tagged = format!("{repository}:v1");
    for (object, field) in workloads(&tagged) {
        let (kind, text) = (object["kind"].as_str().unwrap(), object.to_string());
        shop.apply(&text).ok();
        let kept = shop.get(&[kind, &kind.to_lowercase()]).unwrap();
        let pointer = format!("/{}", field.replace("[0]", "/0").replace('.', "/"));
        assert_eq!(kept.pointer(&pointer), Some(&json!(tagged)), "{kind}: the object is its owner's");
        let again = shop.apply(&text);
        assert!(again.out.contains("unchanged"), "{kind}: {}{}", again.out, again.err);
        let difference = shop.kubectl_reading(&["diff", "-f", "-"], &text);
        assert!(difference.worked, "{kind}: {}{}", difference.out, difference.err);
    }
    // Each of the four that makes pods at once makes one of its own.
    eventually("their pods", || {
        let pods = shop.get(&["pods", "--selector=app=app"])?;
        let pods = pods["items"].as_array().unwrap();
        let owners: std::collections::BTreeSet<&str> =
            pods.iter().filter_map(|pod| pod["metadata"]["ownerReferences"][0]["kind"].as_str()).collect();
        for pod in pods {
            assert_eq!(pod["spec"]["containers"][0]["image"], format!("{tagged}@{digest}"));
        }
        if owners.len() == 4 { Ok(()) } else { Err(format!("{owners:?}")) }
    });
}

/// Asks a replica itself about a pod in a namespace: whether it is allowed.
async fn ask(plane: &Client, release: &str, replica: &Webhook, namespace: &str, image: &str) -> bool {
    use base64::Engine as _;
    let bundle =
        entries(plane, "validatingwebhookconfiguration").unwrap()[0]["clientConfig"]["caBundle"].clone();
    let authority = base64::prelude::BASE64_STANDARD.decode(bundle.as_str().unwrap()).unwrap();
    let host = format!("bonafide.{release}.svc");
    let client = reqwest::Client::builder()
        .no_proxy()
        .resolve(&host, ([127, 0, 0, 1], replica.port).into())
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&authority).unwrap())
        .build()
        .unwrap();
    let mut pod = objects::pod("asked", image);
    pod["metadata"]["namespace"] = json!(namespace);
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": "CREATE", "namespace": namespace, "dryRun": true,
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": pod}});
    let url = format!("https://{host}:{}/validate?timeout=5s", replica.port);
    let answer = client
        .post(url)
        .header("content-type", "application/json")
        .body(review.to_string())
        .send()
        .await
        .unwrap();
    serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap()["response"]["allowed"]
        == json!(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_policy_is_in_force_on_every_replica_and_none_loosens_another() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "changing", &world);
    let replicas = [release.replica("one"), release.replica("two")];
    release.enforced();
    let namespace = plane.namespace("changing-shop");
    let bare = world.image("bare");

    for (policy_is_there, change) in [(true, "apply"), (false, "delete"), (true, "apply")] {
        let text = policy("changing-shop", &world);
        namespace.kubectl_reading(&[change, "-f", "-"], &text).ok();
        let changed = Instant::now();
        for (number, replica) in replicas.iter().enumerate() {
            while ask(&plane, "changing", replica, "changing-shop", bare).await == policy_is_there {
                assert!(changed.elapsed() < Duration::from_secs(20), "replica {number} does not follow");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            println!("replica {number}, after {change}: in force within {:?}", changed.elapsed());
        }
    }

    // Whatever a namespace says, what the cluster asks for is asked for.
    let strict = world
        .policy()
        .replace("kind: ProvenancePolicy", "kind: ClusterProvenancePolicy")
        .replace("  namespace: shop\n", "")
        .replace("name: shop", "name: strict")
        .replace("repository: acme/shop", "repository: acme/other");
    eventually("the namespace's own to admit", || {
        refusal(&plane, "changing-shop", world.image("shop")).map_or(Ok(()), Err)
    });
    plane.apply(&strict).ok();
    let refused =
        eventually("the cluster's to deny", || refusal(&plane, "changing-shop", world.image("shop")));
    assert!(refused.contains("ClusterProvenancePolicy strict"), "{refused}");
    plane.kubectl(&["delete", "clusterprovenancepolicies", "strict"]).ok();
    eventually("the namespace's own to admit again", || {
        refusal(&plane, "changing-shop", world.image("shop")).map_or(Ok(()), Err)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_policy_is_refused_and_one_that_got_in_denies_what_it_names_and_says_so() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "forcing", &world);
    // Nobody is asked about policies yet.
    let namespace = plane.namespace("forcing-shop");
    let invalid = policy("forcing-shop", &world).replace(
        "    - name: release\n",
        "    - name: odd\n      certificate: {issuer: \"https://a.example\", subjectRegex: \"(\"}\n    - name: release\n",
    );
    namespace.apply(&invalid).ok();
    let _webhook = release.replica("one");
    release.enforced();

    let refused = refusal(&plane, "forcing-shop", world.image("shop")).unwrap();
    assert!(refused.contains("InvalidPolicy") && refused.contains("subjectRegex"), "{refused}");
    refusal(&plane, "forcing-shop", "registry.invalid/other:v1").unwrap_err();
    let ready = eventually("its status", || {
        let policy = namespace.get(&["provenancepolicy", "shop"])?;
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == "Ready").ok_or(policy.to_string())
    });
    assert_eq!(ready["status"], "False", "{ready}");
    assert!(ready["message"].as_str().unwrap().contains("subjectRegex"), "{ready}");

    // From now on such a one is refused, and the right one heals.
    let refused = namespace.apply(&invalid.replace("name: shop", "name: second")).refused();
    assert!(refused.contains("spec.signers[0].certificate.subjectRegex"), "{refused}");
    namespace.apply(&policy("forcing-shop", &world)).ok();
    eventually("the right one to be in force", || {
        refusal(&plane, "forcing-shop", world.image("shop")).map_or(Ok(()), Err)
    });
}
