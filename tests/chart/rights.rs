//! What the service account may do: what the program asks for, and nothing more.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{ISSUED, PROVIDED, helm::Helm, helm::of_kind};

/// One right: whether it is for the whole cluster, the group, the resource, the verb, and the only object that it is for.
type Right = (bool, String, String, String, String);

fn rights(objects: &[Value]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (kind, everywhere) in [("ClusterRole", true), ("Role", false)] {
        for rule in of_kind(objects, kind)["rules"].as_array().unwrap() {
            let known = ["apiGroups", "resources", "resourceNames", "verbs"];
            assert!(rule.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{rule}");
            let list = |key: &str| -> Vec<String> {
                let values = rule[key].as_array().into_iter().flatten();
                values.map(|value| value.as_str().unwrap().to_owned()).collect()
            };
            let mut names = list("resourceNames");
            if names.is_empty() {
                names.push(String::new());
            }
            for group in list("apiGroups") {
                for resource in list("resources") {
                    for verb in list("verbs") {
                        for name in &names {
                            let right =
                                (everywhere, group.clone(), resource.clone(), verb.clone(), name.clone());
                            assert!(rights.insert(right.clone()), "granted twice: {right:?}");
                        }
                    }
                }
            }
        }
    }
    rights
}

/// Each line: where, group, resources, verbs, and the names that it is limited to.
fn expected(lines: &[(bool, &str, &str, &str, &str)]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (everywhere, group, resources, verbs, name) in lines {
        for resource in resources.split(' ') {
            for verb in verbs.split(' ') {
                let [group, resource, verb, name] = [*group, resource, verb, *name].map(str::to_owned);
                rights.insert((*everywhere, group, resource, verb, name));
            }
        }
    }
    rights
}

const ALWAYS: &[(bool, &str, &str, &str, &str)] = &[
    (true, "bonafide.dev", "provenancepolicies clusterprovenancepolicies trustroots", "list watch", ""),
    (
        true,
        "bonafide.dev",
        "provenancepolicies/status clusterprovenancepolicies/status trustroots/status",
        "patch",
        "",
    ),
    (true, "", "namespaces", "list watch", ""),
    (true, "", "nodes", "get list watch", ""),
    (true, "", "pods", "get list watch", ""),
    (true, "node.k8s.io", "runtimeclasses", "list watch", ""),
    (
        true,
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations mutatingwebhookconfigurations",
        "get list watch patch delete",
        "bonafide",
    ),
    (true, "authentication.k8s.io", "selfsubjectreviews", "create", ""),
    (true, "events.k8s.io", "events", "create patch", ""),
    (false, "coordination.k8s.io", "leases", "create", ""),
    (false, "coordination.k8s.io", "leases", "get update", "bonafide"),
    // For leaders of versions without probes.
    (false, "bonafide.dev", "provenancepolicies", "create", ""),
];
const PULL_SECRETS: &[(bool, &str, &str, &str, &str)] = &[(true, "", "secrets serviceaccounts", "get", "")];
const KEY_REFERENCES: &[(bool, &str, &str, &str, &str)] = &[(true, "", "secrets configmaps", "get", "")];
const SELF_MANAGED: &[(bool, &str, &str, &str, &str)] =
    &[(false, "", "secrets", "create", ""), (false, "", "secrets", "get update", "bonafide-tls")];

#[test]
fn as_little_as_each_value_needs() {
    let Some(helm) = Helm::find() else { return };
    let without = "pullSecrets.enabled=false";
    for (set, granted) in [
        (vec![], [ALWAYS, PULL_SECRETS, SELF_MANAGED].concat()),
        (vec![without], [ALWAYS, SELF_MANAGED].concat()),
        (vec![without, "keyReferences.enabled=true"], [ALWAYS, KEY_REFERENCES, SELF_MANAGED].concat()),
        (ISSUED.to_vec(), [ALWAYS, PULL_SECRETS].concat()),
        ([PROVIDED, &[without]].concat(), ALWAYS.to_vec()),
    ] {
        let (there, meant) = (rights(&helm.render(&set)), expected(&granted));
        let more: Vec<&Right> = there.difference(&meant).collect();
        let less: Vec<&Right> = meant.difference(&there).collect();
        assert!(more.is_empty() && less.is_empty(), "{set:?}: too much: {more:?}, missing: {less:?}");
    }
}

/// The names in the rules are those that the process is told.
#[test]
fn the_names_follow_the_release() {
    let Some(helm) = Helm::find() else { return };
    let names: BTreeSet<String> =
        rights(&helm.render_as("eu", &[])).into_iter().map(|(_, _, _, _, name)| name).collect();
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["", "eu-bonafide", "eu-bonafide-tls"]);
}

#[test]
fn they_are_bound_to_the_account_of_the_pods() {
    let Some(helm) = Helm::find() else { return };
    for set in [&[][..], &["serviceAccount.create=false", "serviceAccount.name=mine"]] {
        let objects = helm.render(set);
        let account = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"];
        for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
            let binding = of_kind(&objects, binding);
            let subjects = binding["subjects"].as_array().unwrap();
            assert_eq!(subjects.len(), 1);
            assert_eq!(&subjects[0]["name"], account);
            assert_eq!(subjects[0]["namespace"], "prod");
            assert_eq!(binding["roleRef"]["kind"], role);
            assert_eq!(binding["roleRef"]["name"], of_kind(&objects, role)["metadata"]["name"]);
        }
    }
}
