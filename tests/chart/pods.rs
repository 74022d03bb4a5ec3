//! The pods: what the process is told, and what it runs with.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::{
    BY_AN_ISSUER, ISSUED, PROVIDED,
    helm::{Helm, of_kind},
};

/// The arguments of a container, with what Kubernetes puts in place of variables.
fn arguments(container: &Value) -> Vec<String> {
    let arguments = container["args"].as_array().unwrap().iter();
    arguments
        .map(|argument| {
            let argument = argument.as_str().unwrap().replace("$(POD_NAMESPACE)", "prod");
            argument.replace("$(POD_NAME)", "bonafide-0")
        })
        .collect()
}

fn webhook(objects: &[Value]) -> &Value {
    let containers = &of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().unwrap().len(), 1);
    &containers[0]
}

fn bonafide(arguments: &[String]) -> Output {
    // What the pod's environment gives; asked for help at its end, a call does nothing but be parsed.
    let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
    command.env_clear().env("POD_NAME", "bonafide-0").env("POD_NAMESPACE", "prod");
    command.args(arguments).arg("--help").output().unwrap()
}

/// Values that bring every flag there is.
const EVERYTHING: &[&str] = &[
    "optOutLabel=bonafide.dev/review",
    "platforms={linux/arm64,linux/arm/v7}",
    "registries.insecure={registry.example:5000}",
    "registries.credentialsSecret=mine",
    "registries.caConfigMap=mine",
    "trustRoot.configMap=mine",
    "trustRoot.cache.enabled=true",
    "failurePolicy=Ignore",
    "bindingFailurePolicy=Fail",
    "reach=images",
    "unmatchedImages=deny",
    "log.format=text",
    "listenAddress=[::]",
    "keyReferences.enabled=true",
    "registries.local={localhost:5000}",
    "callers.cidrs={10.0.0.0/8,fd00::/8}",
    "callers.clientCA=clients",
    "callers.requireToken=true",
    "callers.tokenSubjects={system:serviceaccount:kube-system:webhook-auth}",
];

#[test]
fn the_program_understands_what_it_is_told() {
    let Some(helm) = Helm::find() else { return };
    let nothing = ["pinning.enabled=false", "pullSecrets.enabled=false", "exemptNamespaces=null"];
    for set in [&[][..], EVERYTHING, &nothing[..], ISSUED, BY_AN_ISSUER, PROVIDED] {
        let objects = helm.render(set);
        for container in [webhook(&objects), &of_kind(&objects, "Pod")["spec"]["containers"][0]] {
            let told = arguments(container);
            let run = bonafide(&told);
            let error = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success(), "{set:?}: {told:?}: {error}");
        }
    }
    // So that the above can fail.
    assert!(!bonafide(&["serve", "--cluster", "--no-such-flag"].map(str::to_owned)).status.success());
    assert!(!bonafide(&["serve", "--cluster", "--platform=arm64"].map(str::to_owned)).status.success());
}

/// Of what `serve` can be told, the chart knows all but what makes no sense in it.
#[test]
fn every_flag_has_a_value() {
    let Some(helm) = Helm::find() else { return };
    let run = Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["serve", "--help"]).output().unwrap();
    let usage = String::from_utf8(run.stdout).unwrap();
    let words = usage.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let known: BTreeSet<&str> = words
        .flat_map(|line| line.split([' ', ',']).filter(|word| word.starts_with("--")))
        .map(|flag| flag.split(['=', '[']).next().unwrap())
        .collect();

    let told: Vec<String> = [EVERYTHING, PROVIDED]
        .iter()
        .flat_map(|set| arguments(webhook(&helm.render(set))))
        .map(|argument| argument.split('=').next().unwrap().to_owned())
        .collect();
    let elsewhere = ["--policies", "--tls-ca-out", "--timeout", "--shutdown-delay", "--help"];
    for flag in known {
        let told = told.iter().any(|known| known == flag);
        assert!(told != elsewhere.contains(&flag), "{flag}: told by the chart: {told}");
    }
}

/// What depends on a value, in the arguments.
#[test]
fn values_become_flags() {
    let Some(helm) = Helm::find() else { return };
    let told = |set: &[&str]| arguments(webhook(&helm.render(set)));
    let default = told(&[]);
    let difference = |set: &[&str]| {
        let there = told(set);
        let added = there.iter().filter(|flag| !default.contains(flag)).map(|flag| format!("+{flag}"));
        let gone = default.iter().filter(|flag| !there.contains(flag)).map(|flag| format!("-{flag}"));
        added.chain(gone).collect::<Vec<_>>().join(" ")
    };
    let tls =
        "+--certificates=files +--tls-cert=/etc/bonafide/tls/tls.crt +--tls-key=/etc/bonafide/tls/tls.key";
    let own = "---certificates=self-managed ---certificate-lifetime=2160h ---ca-lifetime=17520h";
    for (set, expected) in [
        (&["timeoutSeconds=5"][..], "+--webhook-timeout=5s ---webhook-timeout=10s".to_owned()),
        (&["failurePolicy=Ignore"], "+--failure-policy=Ignore ---failure-policy=Fail".to_owned()),
        (&["pinning.enabled=false"], "---pinning".to_owned()),
        (&["pullSecrets.enabled=false"], "---pull-secrets".to_owned()),
        (&["keyReferences.enabled=true"], "+--key-references".to_owned()),
        (&["trustRoot.refresh=false"], "---tuf-refresh".to_owned()),
        // kube-system and the own one are exempt whatever is said.
        (&["exemptNamespaces={a}"], "+--exempt-namespace=a".to_owned()),
        (&["exemptNamespaces=null"], String::new()),
        (&["exemptNamespaces={kube-system,prod}"], String::new()),
        (
            &["callers.cidrs={10.0.0.0/8,fd00::/8}"],
            "+--caller-cidr=10.0.0.0/8 +--caller-cidr=fd00::/8".to_owned(),
        ),
        (&["callers.clientCA=clients"], "+--caller-ca=/etc/bonafide/callers/ca.crt".to_owned()),
        (&["callers.requireToken=true"], "+--require-caller-token".to_owned()),
        (
            &["callers.requireToken=true", "callers.tokenSubjects={a:b}"],
            "+--require-caller-token +--caller-token-subject=a:b".to_owned(),
        ),
        // Nobody's token is looked at.
        (&["callers.tokenSubjects={a:b}"], String::new()),
        (&["reach=images"], "+--reach=images ---reach=namespaces".to_owned()),
        (&["bindingFailurePolicy=Ignore"], "+--binding-failure-policy=Ignore".to_owned()),
        (&["service.port=9443"], "+--service-port=9443 ---service-port=443".to_owned()),
        (&["ports.webhook=10250"], "+--listen=0.0.0.0:10250 ---listen=0.0.0.0:8443".to_owned()),
        (
            &["certificates.selfManaged.lifetime=48h"],
            "+--certificate-lifetime=48h ---certificate-lifetime=2160h".to_owned(),
        ),
        (ISSUED, format!("{tls} +--tls-ca=/etc/bonafide/tls/ca.crt {own}")),
        (PROVIDED, format!("{tls} +--tls-ca=/etc/bonafide/tls/ca.crt {own}")),
        (&[PROVIDED, &["certificates.provided.caKey="]].concat(), format!("{tls} {own}")),
    ] {
        assert_eq!(difference(set), expected, "{set:?}");
    }
}

/// Every file that is named is mounted, as a whole folder: a `subPath` would not follow a change.
#[test]
fn the_files_named_are_mounted() {
    let Some(helm) = Helm::find() else { return };
    for set in [&[][..], EVERYTHING, ISSUED, PROVIDED] {
        let objects = helm.render(set);
        let container = webhook(&objects);
        let mounts: Vec<&Value> = container["volumeMounts"].as_array().into_iter().flatten().collect();
        let files: BTreeSet<String> = arguments(container)
            .iter()
            .filter_map(|argument| argument.split_once('='))
            .filter(|(_, value)| value.starts_with('/'))
            .map(|(_, path)| path.rsplit_once('/').unwrap().0.to_owned())
            .collect();
        let folders: BTreeSet<String> =
            mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect();
        assert_eq!(files, folders, "{set:?}");
        let volumes = of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"].clone();
        for mount in mounts {
            // What is fetched is written, and nothing else.
            let is_written = mount["name"] == "trust-roots";
            assert!(mount.get("subPath").is_none() && (mount["readOnly"] == true) != is_written, "{mount}");
            let named = |volume: &&Value| volume["name"] == mount["name"];
            assert_eq!(volumes.as_array().unwrap().iter().filter(named).count(), 1, "{mount}");
        }
    }
}

/// Where trust roots that are fetched are kept: nowhere but in memory, for the pod's life, or where an operator says.
#[test]
fn fetched_trust_roots_are_kept_where_it_is_said() {
    let Some(helm) = Helm::find() else { return };
    let kept = |set: &[&str]| {
        let objects = helm.render(set);
        let is_told = arguments(webhook(&objects)).iter().any(|flag| flag.starts_with("--tuf-cache="));
        let volumes = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"];
        let mut volumes = volumes.as_array().into_iter().flatten();
        let volume = volumes.find(|volume| volume["name"] == "trust-roots").cloned();
        assert_eq!(volume.is_some(), is_told, "{set:?}");
        volume
    };
    let (enabled, claim) = ("trustRoot.cache.enabled=true", "trustRoot.cache.claim=roots");
    assert_eq!(kept(&[]), None);
    assert_eq!(kept(&[claim]), None);
    assert_eq!(kept(&[enabled]), Some(json!({"name": "trust-roots", "emptyDir": {"sizeLimit": "64Mi"}})));
    let claimed = json!({"name": "trust-roots", "persistentVolumeClaim": {"claimName": "roots"}});
    assert_eq!(kept(&[enabled, claim]), Some(claimed));
}

/// The pod security standard `restricted`, and more.
#[test]
fn the_pods_can_do_little() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.render(&[]);
    let test = &of_kind(&objects, "Pod")["spec"];
    let pods = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
    for spec in [test, pods] {
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_ne!(spec["securityContext"]["runAsUser"], 0);
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let context = &spec["containers"][0]["securityContext"];
        assert_eq!(
            *context,
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
        );
        assert!(spec["containers"][0]["resources"]["limits"]["memory"].is_string());
    }
    // Who asks nothing of the API server holds no token.
    assert_eq!(test["automountServiceAccountToken"], false);
    assert_eq!(pods["automountServiceAccountToken"], true);
    assert_eq!(of_kind(&objects, "ServiceAccount")["automountServiceAccountToken"], false);
}

/// Probes and Service name the ports; where those are is told to the process.
#[test]
fn ports_are_where_the_process_listens() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.render(&["ports.webhook=10250", "ports.health=10251"]);
    let container = webhook(&objects);
    assert_eq!(
        container["ports"],
        json!([{"name": "webhook", "containerPort": 10250}, {"name": "health", "containerPort": 10251}])
    );
    let told = arguments(container);
    for flag in ["--listen=0.0.0.0:10250", "--health-listen=0.0.0.0:10251"] {
        assert!(told.contains(&flag.to_owned()), "{told:?}");
    }
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "health"}));
    }
    let service = of_kind(&objects, "Service");
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert_eq!((&ports[0]["port"], &ports[0]["targetPort"]), (&json!(443), &json!("webhook")));
    // Selected are the pods of the Deployment, and not that of the test.
    let labels = |pod: &Value| pod["metadata"]["labels"].clone();
    let pods = labels(&of_kind(&objects, "Deployment")["spec"]["template"]);
    let test = labels(of_kind(&objects, "Pod"));
    let selects = |labels: &Value| {
        let selector = service["spec"]["selector"].as_object().unwrap();
        selector.iter().all(|(key, value)| labels[key] == *value)
    };
    assert!(selects(&pods) && !selects(&test), "{service}");
}

/// The process ends by itself before it is killed.
#[test]
fn a_pod_gets_the_time_it_takes_to_end() {
    let Some(helm) = Helm::find() else { return };
    let grace = helm.render(&[]);
    let grace = &of_kind(&grace, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let delay = 5; // of `--shutdown-delay` in a cluster
    assert!(grace.as_u64().unwrap() > bonafide::server::listen::DRAIN.as_secs() + delay + 5);
}

#[test]
fn b11_an_old_pod_goes_first_where_both_would_need_the_same_port() {
    let Some(helm) = Helm::find() else { return };
    let strategy = |set: &[&str]| of_kind(&helm.render(set), "Deployment")["spec"]["strategy"].clone();
    let rolling = |unavailable: u8, surge: u8| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
    assert_eq!(strategy(&[]), rolling(0, 1));
    assert_eq!(strategy(&["hostNetwork=true"]), rolling(1, 0));
    for network in ["hostNetwork=true", "hostNetwork=false"] {
        let own = ["updateStrategy.rollingUpdate.maxUnavailable=25%", "updateStrategy.type=RollingUpdate"];
        let expected = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}});
        assert_eq!(strategy(&[&own[..], &[network]].concat()), expected);
        assert_eq!(strategy(&["updateStrategy.type=Recreate", network]), json!({"type": "Recreate"}));
    }
}

/// Reviews come from these addresses alone; whoever scrapes and probes comes from anywhere.
#[test]
fn d_the_network_policy_lets_the_callers_in_and_everyone_to_health() {
    let Some(helm) = Helm::find() else { return };
    let rules = |set: &[&str]| of_kind(&helm.render(set), "NetworkPolicy")["spec"]["ingress"].clone();
    let (webhook, health) =
        (json!({"port": "webhook", "protocol": "TCP"}), json!({"port": "health", "protocol": "TCP"}));
    assert_eq!(rules(&[]), json!([{"ports": [webhook, health]}]));
    let from = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]);
    assert_eq!(
        rules(&["callers.cidrs={10.0.0.0/8,fd00::/8}"]),
        json!([{"from": from, "ports": [webhook]}, {"ports": [health]}])
    );
}
