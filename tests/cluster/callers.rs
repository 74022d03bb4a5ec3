//! Who may call: the API server with a client certificate that its `AdmissionConfiguration` gives it, and whoever has a token that the API
//! server issued for the webhook's own configuration.

use std::{fs, thread, time::Duration};

use bonafide_kit::plane::{ControlPlane, eventually};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::{
    balancer::Balancer,
    installation::{BAD, Installation, entries, is_enforced},
    objects,
    shared::alone,
    webhook::Webhook,
};

const UNKNOWN: &str = "does not know who sent this review";

/// Who signs client certificates.
struct ClientAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl ClientAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key of a client, PEM.
    fn issue(&self) -> (String, String) {
        let mut params = CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// What a replica answers to a review of a pod that has no valid image reference, sent by this test.
fn ask(replica: &Webhook, path: &str, token: Option<&str>) -> Value {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "asked-by-the-test", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "default", "name": "p", "operation": "CREATE", "object": objects::pod("p", BAD),
        },
    });
    let url = format!("https://127.0.0.1:{}{path}", replica.port);
    let answered = async {
        let client =
            reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
        let mut request = client.post(url).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.body(review.to_string()).send().await.unwrap().bytes().await.unwrap()
    };
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(answered);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], "asked-by-the-test");
    answer["response"].clone()
}

fn is_unknown(answer: &Value) -> bool {
    let message = answer["status"]["message"].as_str().unwrap_or_default();
    answer["allowed"] == false && answer["status"]["code"] == 401 && message.contains(UNKNOWN)
}

/// The names of the entries that review workloads.
fn workload_entries(plane: &ControlPlane) -> Result<Vec<String>, String> {
    let all = entries(plane, "validatingwebhookconfiguration")?;
    let names = all.iter().filter_map(|entry| entry["name"].as_str().map(ToOwned::to_owned));
    Ok(names.filter(|name| name.starts_with("workloads.") || name.starts_with("bindings.")).collect())
}

#[test]
fn d_an_api_server_that_presents_a_client_certificate_is_known_and_others_are_not() {
    let Some(plane) = alone() else { return };
    let (right, other) = (ClientAuthority::new(), ClientAuthority::new());
    let (certificate, key) = right.issue();
    let presented = plane.presented_client();
    fs::write(&presented.certificate, certificate).unwrap();
    fs::write(&presented.key, key).unwrap();
    let trusted = plane.folder().join("callers.crt");
    fs::write(&trusted, &other.pem).unwrap();

    let mut release = Installation::behind(
        &plane,
        presented.namespace,
        Balancer::on(presented.port),
        &["--set=callers.clientCA=clients"],
    );
    release.flag(format!("--caller-ca={}", trusted.display()));
    let replica = release.replica("first");
    // The certificate is of an authority that does not count: nothing is enforced.
    eventually("the probe to be refused", || {
        let counted = replica.get("/metrics")?;
        let is_refused = counted.contains(r#"bonafide_unknown_callers_total{what="certificate"}"#);
        if is_refused { Ok(()) } else { Err(replica.log()) }
    });
    assert_eq!(workload_entries(&plane).unwrap(), Vec::<String>::new());
    assert!(is_unknown(&ask(&replica, "/validate", None)));

    // Now it is.
    fs::write(&trusted, format!("{}{}", right.pem, other.pem)).unwrap();
    release.enforced();
    is_enforced(&plane).unwrap();
    assert!(is_unknown(&ask(&replica, "/validate", None)), "it is the API server that is known");
}

#[test]
fn d_a_token_that_the_api_server_issued_for_the_webhook_is_known_and_no_other() {
    let Some(plane) = alone() else { return };
    let release =
        Installation::behind(&plane, "tokens", Balancer::start(), &["--set=callers.requireToken=true"]);
    let replica = release.replica("first");
    let audience = |path: &str| format!("https://bonafide.tokens.svc:{}{path}", release.service.port);
    plane
        .apply(
            &json!({"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"name": "webhook-auth", "namespace": "kube-system"}},
                {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "webhook-auth"},
                    "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["admissionReviewAPIGroups"],
                        "resourceNames": ["*", "apps"], "verbs": ["attest"]}]},
                {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                    "metadata": {"name": "webhook-auth"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "webhook-auth"},
                    "subjects": [{"kind": "ServiceAccount", "name": "webhook-auth", "namespace": "kube-system"}]},
                {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                    "metadata": {"name": "another"}},
            ]})
            .to_string(),
        )
        .ok();
    let issue = |audience: &str, bound: Option<(&str, &str)>| -> Result<String, String> {
        let mut spec = json!({"audiences": [audience], "expirationSeconds": 600});
        if let Some((kind, name)) = bound {
            spec["boundObjectRef"] =
                json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "name": name});
            spec["attestations"] = json!({"admissionReviewAPIGroups": ["*"]});
        }
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = "/api/v1/namespaces/kube-system/serviceaccounts/webhook-auth/token";
        let ran = plane.kubectl_reading(&["create", "--raw", path, "-f", "-"], &request.to_string());
        let answer: Value = serde_json::from_str(&ran.attempt()?).unwrap();
        Ok(answer["status"]["token"].as_str().unwrap().to_owned())
    };
    let (validating, mutating) = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration");

    let good = issue(&audience("/validate"), Some((validating, "bonafide"))).unwrap();
    let answer = ask(&replica, "/validate", Some(&good));
    assert_eq!(answer["status"]["code"], 403, "{answer}");
    assert!(answer["status"]["message"].as_str().unwrap().contains("InvalidReference"), "{answer}");
    let pods = issue(&audience("/mutate"), Some((mutating, "bonafide"))).unwrap();
    assert_eq!(ask(&replica, "/mutate", Some(&pods))["allowed"], true);

    assert!(is_unknown(&ask(&replica, "/validate", None)));
    for (what, token) in [
        ("of another entry", issue(&audience("/mutate"), Some((mutating, "bonafide")))),
        ("bound to the other configuration", issue(&audience("/validate"), Some((mutating, "bonafide")))),
        ("bound to another's configuration", issue(&audience("/validate"), Some((validating, "another")))),
        ("for another port", issue("https://bonafide.tokens.svc:1/validate", Some((validating, "bonafide")))),
        // What any pod may mount.
        ("bound to nothing", issue(&audience("/validate"), None)),
    ] {
        let answer = ask(&replica, "/validate", Some(&token.unwrap()));
        assert!(is_unknown(&answer), "{what}: {answer}");
    }
    // This API server sends none, so it is not seen to reach the webhook, and nothing is enforced.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(workload_entries(&plane).unwrap(), Vec::<String>::new());
    drop(release);
    plane.kubectl(&["delete", "validatingwebhookconfiguration", "another"]).ok();
}

#[test]
fn d_an_api_server_that_presents_a_token_is_known_and_others_are_not() {
    let Some(plane) = alone() else { return };
    let presented = plane.presented_token();
    let subject = "system:serviceaccount:kube-system:presenter";
    let sets = ["--set=callers.requireToken=true", &format!("--set=callers.tokenSubjects={{{subject}}}")];
    let release = Installation::behind(&plane, presented.namespace, Balancer::on(presented.port), &sets);
    plane.kubectl(&["--namespace=kube-system", "create", "serviceaccount", "presenter"]).ok();
    let audience =
        |path: &&str| format!("https://bonafide.{}.svc:{}{path}", presented.namespace, presented.port);
    let audiences: Vec<String> =
        ["/validate", "/mutate", "/bind", "/validate-policy", "/probe"].iter().map(audience).collect();
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": audiences, "expirationSeconds": 3600}});
    let path = "/api/v1/namespaces/kube-system/serviceaccounts/presenter/token";
    let issued = plane.kubectl_reading(&["create", "--raw", path, "-f", "-"], &request.to_string()).ok();
    let issued: Value = serde_json::from_str(&issued).unwrap();
    fs::write(&presented.token, issued["status"]["token"].as_str().unwrap()).unwrap();

    // The probe passes with it, so everything is enforced.
    let replica = release.replica("first");
    release.enforced();
    is_enforced(&plane).unwrap();
    assert!(is_unknown(&ask(&replica, "/validate", None)), "it is the API server that is known");
}
