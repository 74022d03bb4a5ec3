//! The serving certificate: two files that must go together, and may be replaced at any moment.

use std::{fs, path::Path, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use bonafide::server::{
    health::{self, Readiness},
    listen::{Listeners, Service},
    metrics::Metrics,
    tls::{self, CertificateError, CertificateFiles},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::oneshot};

use crate::support::Folder;

/// A certificate authority of the test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key, as PEM; the year it ends tells one from another.
    fn issue(&self, until: i32) -> (String, String) {
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn open(folder: &Folder, metrics: &Arc<Metrics>) -> Result<CertificateFiles, CertificateError> {
    tls::install_crypto_provider();
    CertificateFiles::open(&folder.join("tls.crt"), &folder.join("tls.key"), metrics)
}

fn year(files: &CertificateFiles) -> i16 {
    files.certificate().not_after().unwrap().to_zoned(jiff::tz::TimeZone::UTC).year()
}

#[test]
fn a_pair_that_does_not_go_together_is_refused_at_start() {
    let (folder, authority, metrics) = (Folder::new(), Authority::new(), Metrics::new("test"));
    let (certificate, key) = authority.issue(2100);
    let (_, other_key) = authority.issue(2100);
    folder.write("tls.crt", &certificate);
    folder.write("tls.key", &other_key);
    let error = open(&folder, &metrics).unwrap_err();
    assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("tls.crt") && text.contains("tls.key"), "{text}");

    folder.write("tls.key", &key);
    assert!(open(&folder, &metrics).is_ok(), "the twin that goes together");
}

#[test]
fn files_that_hold_something_else_are_refused_by_name() {
    let (folder, authority, metrics) = (Folder::new(), Authority::new(), Metrics::new("test"));
    let (certificate, key) = authority.issue(2100);
    let error = open(&folder, &metrics).unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.contains("tls.crt"), "{error}");
    for (crt, private, blamed) in [
        ("", key.as_str(), "tls.crt"),
        (key.as_str(), key.as_str(), "tls.crt"),
        (certificate.as_str(), "", "tls.key"),
        (certificate.as_str(), certificate.as_str(), "tls.key"),
    ] {
        folder.write("tls.crt", crt);
        folder.write("tls.key", private);
        let error = open(&folder, &metrics).unwrap_err();
        assert!(matches!(error, CertificateError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(blamed), "{error}");
    }
}

#[test]
fn a_swap_as_kubernetes_does_it_is_noticed_and_a_broken_pair_is_not_served() {
    let (folder, authority, metrics) = (Folder::new(), Authority::new(), Metrics::new("test"));
    let mount = |version: &str, pair: (&str, &str)| {
        folder.mount(version, &[("tls.crt", pair.0), ("tls.key", pair.1)]);
    };
    let first = authority.issue(2100);
    let second = authority.issue(2101);
    mount("1", (&first.0, &first.1));
    let files = open(&folder, &metrics).unwrap();
    assert!(!files.poll(), "nothing changed");
    assert_eq!(year(&files), 2100);

    mount("2", (&second.0, &first.1));
    assert!(!files.poll(), "the key is still the old one");
    assert_eq!(year(&files), 2100, "the old pair stays");
    assert!(!files.poll(), "and it is said once");

    mount("3", (&second.0, &second.1));
    assert!(files.poll());
    assert_eq!(year(&files), 2101);

    fs::remove_file(folder.join("..data")).unwrap();
    assert!(!files.poll() && !files.poll());
    assert_eq!(year(&files), 2101, "files that are gone leave the certificate in force");

    mount("4", (&second.0, &second.1));
    assert!(files.poll(), "they are back");
    let text = metrics.encode();
    assert!(text.contains("bonafide_certificate_reloads_total{result=\"failed\"} 2\n"), "{text}");
    assert!(text.contains("bonafide_certificate_reloads_total{result=\"applied\"} 2\n"), "{text}");
}

fn client(ca: &str) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes()).unwrap()])
        .tls_info(true)
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()
        .unwrap()
}

/// A server with one route, and what ends it.
async fn serve(
    certificate: Arc<tls::Certificate>,
    route: Router,
    drain: Duration,
) -> (Addresses, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any).await.unwrap();
    let at = Addresses { webhook: listeners.webhook_address(), health: listeners.health_address() };
    let readiness = Arc::new(Readiness::default());
    readiness.policies_loaded();
    readiness.trust_root_loaded();
    readiness.certificate_loaded(Arc::clone(&certificate));
    let service = Service {
        validate: None,
        admission: route,
        health: health::router(Arc::clone(&readiness), Metrics::new("test")),
        metrics: Metrics::new("test"),
        readiness,
        certificate,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(async move { listeners.serve(service, shutdown, drain).await.unwrap() });
    (at, stop, server)
}

/// Where the two listen.
struct Addresses {
    webhook: std::net::SocketAddr,
    health: std::net::SocketAddr,
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_live_on() {
    let (folder, authority, metrics) = (Folder::new(), Authority::new(), Metrics::new("test"));
    let write = |until| {
        let (certificate, key) = authority.issue(until);
        folder.mount(&until.to_string(), &[("tls.crt", &certificate), ("tls.key", &key)]);
        certificate
    };
    write(2100);
    let files = open(&folder, &metrics).unwrap();
    let route = Router::new().route("/", get(|| async { "ok" }));
    let (at, stop, server) = serve(files.certificate(), route, Duration::from_secs(1)).await;
    let url = format!("https://{}/", at.webhook);
    let leaf_of = |response: &reqwest::Response| {
        let info = response.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        info.peer_certificate().unwrap().to_vec()
    };

    let old = client(&authority.pem);
    let before = old.get(&url).send().await.unwrap();
    assert_eq!(before.version(), reqwest::Version::HTTP_2, "chosen by ALPN");
    write(2101);
    assert!(files.poll());
    let kept = old.get(&url).send().await.unwrap();
    assert_eq!(leaf_of(&kept), leaf_of(&before), "the connection was not dropped");
    let fresh = client(&authority.pem).get(&url).send().await.unwrap();
    assert_ne!(leaf_of(&fresh), leaf_of(&before));

    stop.send(()).unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_handed_over_while_it_serves_and_what_is_of_no_use_is_not() {
    tls::install_crypto_provider();
    let authority = Authority::new();
    let certificate = tls::Certificate::pending();
    let route = Router::new().route("/", get(|| async { "ok" }));
    let (at, stop, server) = serve(Arc::clone(&certificate), route, Duration::from_secs(1)).await;
    let url = format!("https://{}/", at.webhook);
    let ready = format!("http://{}/readyz", at.health);
    assert!(client(&authority.pem).get(&url).send().await.is_err(), "there is none yet");
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 503);
    assert!(!certificate.is_current());

    let first = authority.issue(2100);
    certificate.replace(first.0.as_bytes(), first.1.as_bytes()).unwrap();
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 200);
    let old = client(&authority.pem);
    assert!(old.get(&url).send().await.unwrap().status().is_success());

    let second = authority.issue(2101);
    let error = certificate.replace(second.0.as_bytes(), first.1.as_bytes()).unwrap_err();
    assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
    assert!(certificate.replace(b"", b"").is_err());
    let year = || certificate.not_after().unwrap().to_zoned(jiff::tz::TimeZone::UTC).year();
    assert_eq!(year(), 2100);
    certificate.replace(second.0.as_bytes(), second.1.as_bytes()).unwrap();
    assert_eq!(year(), 2101);
    assert!(old.get(&url).send().await.unwrap().status().is_success(), "the connection lives on");

    stop.send(()).unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_certificate_made_at_start_is_accepted_by_who_has_its_authority_and_by_nobody_else() {
    tls::install_crypto_provider();
    let (certificate, ca) = tls::self_made("127.0.0.1".parse().unwrap()).unwrap();
    let (_, other_ca) = tls::self_made("127.0.0.1".parse().unwrap()).unwrap();
    assert!(certificate.is_current());
    let route = Router::new().route("/", get(|| async { "ok" }));
    let (at, stop, server) = serve(certificate, route, Duration::from_secs(1)).await;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/", at.webhook.port());
        assert!(client(&ca).get(&url).send().await.unwrap().status().is_success());
        assert!(client(&other_ca).get(&url).send().await.is_err());
    }
    stop.send(()).unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_what_is_idle_is_closed() {
    tls::install_crypto_provider();
    let (certificate, ca) = tls::self_made("127.0.0.1".parse().unwrap()).unwrap();
    let (tell_begun, mut begun) = tokio::sync::mpsc::channel::<()>(1);
    let (finish, finished) = tokio::sync::watch::channel(false);
    let slow = move || {
        let (tell_begun, mut finished) = (tell_begun.clone(), finished.clone());
        async move {
            tell_begun.send(()).await.unwrap();
            finished.wait_for(|done| *done).await.unwrap();
            "done"
        }
    };
    let route = Router::new().route("/slow", get(slow)).route("/", get(|| async { "ok" }));
    let (at, stop, server) = serve(certificate, route, Duration::from_secs(20)).await;
    let url = format!("https://{}", at.webhook);
    let health = format!("http://{}/readyz", at.health);

    // An idle connection that stays open.
    let idle = client(&ca);
    assert!(idle.get(&url).send().await.unwrap().status().is_success());
    // One that says nothing at all.
    let mut silent = TcpStream::connect(at.webhook).await.unwrap();
    let in_flight = tokio::spawn(client(&ca).get(format!("{url}/slow")).send());
    begun.recv().await.unwrap();
    assert_eq!(reqwest::get(&health).await.unwrap().status(), 200);

    stop.send(()).unwrap();
    // The silent one is closed, so the end has begun.
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let refused = client(&ca).get(&url).send().await;
    assert!(refused.is_err(), "no new connection is taken");
    let ready = reqwest::get(&health).await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("shutting down"));
    assert!(!server.is_finished());

    finish.send(true).unwrap();
    assert_eq!(in_flight.await.unwrap().unwrap().text().await.unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(5), server).await.expect("ends when all is answered").unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    tls::install_crypto_provider();
    let (certificate, ca) = tls::self_made("127.0.0.1".parse().unwrap()).unwrap();
    let (tell_begun, mut begun) = tokio::sync::mpsc::channel::<()>(1);
    let stuck = move || {
        let tell_begun = tell_begun.clone();
        async move {
            tell_begun.send(()).await.unwrap();
            std::future::pending::<&str>().await
        }
    };
    let (at, stop, server) =
        serve(certificate, Router::new().route("/", get(stuck)), Duration::from_millis(50)).await;
    let request = tokio::spawn(client(&ca).get(format!("https://{}/", at.webhook)).send());
    begun.recv().await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), server).await.expect("ends").unwrap();
    assert!(request.await.unwrap().is_err());
}

#[test]
fn readiness_tells_what_is_missing_and_an_expired_certificate_is_not_ready() {
    tls::install_crypto_provider();
    let (folder, authority, metrics) = (Folder::new(), Authority::new(), Metrics::new("test"));
    let readiness = Readiness::default();
    assert_eq!(readiness.missing().len(), 3);
    readiness.policies_loaded();
    readiness.trust_root_loaded();
    assert_eq!(readiness.missing(), ["there is no certificate that is valid now"]);
    let write = |name: &str, until| {
        let (certificate, key) = authority.issue(until);
        folder.mount(name, &[("tls.crt", &certificate), ("tls.key", &key)]);
    };
    write("expired", 2020);
    let files = open(&folder, &metrics).unwrap();
    readiness.certificate_loaded(files.certificate());
    assert_eq!(readiness.missing(), ["there is no certificate that is valid now"]);
    write("current", 2100);
    assert!(files.poll());
    assert!(readiness.missing().is_empty());
    readiness.drain();
    assert_eq!(readiness.missing(), ["shutting down"]);
}

#[test]
fn a_ca_is_written_whole() {
    let folder = Folder::new();
    let path = folder.write("ca.pem", "old");
    bonafide::server::files::write_whole(&path, b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    assert!(bonafide::server::files::write_whole(Path::new("/nowhere/ca.pem"), b"new").is_err());
}
