//! Who may call: by address and by client certificate, over TLS. Whatever is refused is a denial with the review's uid.

use std::{sync::Arc, time::Duration};

use bonafide::server::{
    callers::{Callers, Cidr, ClientAuthorities},
    health,
    listen::{Listeners, Service},
    tls,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    stand_in::{Server, create, pod},
    support::Folder,
};

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

    /// Certificate and key for a purpose, PEM.
    fn issue(&self, purpose: ExtendedKeyUsagePurpose, until: i32) -> String {
        let mut params = CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        format!("{certificate}{}", key.serialize_pem())
    }
}

/// A webhook that listens.
struct Running {
    url: String,
    health: String,
    ca: String,
    _stop: oneshot::Sender<()>,
}

async fn serve(server: &Server, clients: Option<Arc<ClientAuthorities>>) -> Running {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any).await.unwrap().with_clients(clients);
    let (url, health) = (
        format!("https://{}/validate", listeners.webhook_address()),
        format!("http://{}", listeners.health_address()),
    );
    let (certificate, ca) = tls::self_made("127.0.0.1".parse().unwrap()).unwrap();
    let readiness = Arc::clone(&server.readiness);
    let service = Service {
        validate: None,
        admission: server.router.clone(),
        health: health::router(Arc::clone(&readiness), server.metrics()),
        readiness,
        certificate,
        metrics: server.metrics(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    tokio::spawn(async move { listeners.serve(service, shutdown, Duration::from_secs(1)).await.unwrap() });
    Running { url, health, ca, _stop: stop }
}

impl Running {
    async fn review(&self, identity: Option<&str>) -> Value {
        let mut client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.ca.as_bytes()).unwrap()])
            .timeout(Duration::from_secs(10))
            .no_proxy();
        if let Some(identity) = identity {
            client = client.identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap());
        }
        let review = create(&pod(&["good"]));
        let request = client.build().unwrap().post(&self.url).header("content-type", "application/json");
        let answer = request.body(review.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    async fn is_healthy(&self) -> bool {
        reqwest::get(format!("{}/livez", self.health)).await.unwrap().status().is_success()
            && reqwest::get(format!("{}/metrics", self.health)).await.unwrap().status().is_success()
    }
}

#[tokio::test]
async fn d_a_review_from_another_address_is_denied() {
    tls::install_crypto_provider();
    for (cidr, allowed) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let cidr: Cidr = cidr.parse().unwrap();
        let server = Server::called_by(Callers::new(vec![cidr], None, None));
        let running = serve(&server, None).await;
        let answer = running.review(None).await;
        assert_eq!(answer["allowed"], allowed, "{cidr:?}: {answer}");
        if !allowed {
            assert_eq!(answer["status"]["code"], 401);
            insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap());
            server.counted(r#"bonafide_unknown_callers_total{what="address"} 1"#);
            assert_eq!(server.judged(), 0);
        }
        assert!(running.is_healthy().await);
    }
}

#[tokio::test]
async fn d_a_review_without_a_client_certificate_that_counts_is_denied() {
    tls::install_crypto_provider();
    let (authority, other, folder) = (ClientAuthority::new(), ClientAuthority::new(), Folder::new());
    let clients = ClientAuthorities::open(&folder.write("ca.crt", &authority.pem)).unwrap();
    let server = Server::called_by(Callers::new(Vec::new(), Some(Arc::clone(&clients)), None));
    let running = serve(&server, Some(Arc::clone(&clients))).await;
    let (client, for_servers) = (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    let good = authority.issue(client.clone(), 2100);
    let mut told = Vec::new();
    for (what, identity) in [
        ("none", None),
        ("of another authority", Some(other.issue(client.clone(), 2100))),
        ("expired", Some(authority.issue(client, 2001))),
        ("for servers", Some(authority.issue(for_servers, 2100))),
    ] {
        let answer = running.review(identity.as_deref()).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&false.into(), &401.into()), "{what}");
        told.push(format!("{what}: {}", answer["status"]["message"].as_str().unwrap()));
    }
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(server.judged(), 0);
    assert_eq!(running.review(Some(&good)).await["allowed"], true);
    assert!(running.is_healthy().await);

    // The authority is replaced, and what it signed does not count any more.
    folder.write("ca.crt", &other.pem);
    clients.poll();
    assert_eq!(running.review(Some(&good)).await["allowed"], false);
    // What is of no use leaves the last one in force.
    folder.write("ca.crt", "nothing");
    clients.poll();
    assert_eq!(running.review(Some(&good)).await["allowed"], false);
    folder.write("ca.crt", &format!("{}{}", authority.pem, other.pem));
    clients.poll();
    assert_eq!(running.review(Some(&good)).await["allowed"], true);
}

#[test]
fn d_a_file_of_authorities_that_is_of_no_use_is_refused_at_start() {
    let folder = Folder::new();
    assert!(ClientAuthorities::open(&folder.join("missing")).is_err());
    assert!(ClientAuthorities::open(&folder.write("ca.crt", "nothing")).is_err());
    assert!(ClientAuthorities::open(&folder.write("ca.crt", &ClientAuthority::new().pem)).is_ok());
}
