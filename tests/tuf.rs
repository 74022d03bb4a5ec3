//! Trust roots that are fetched: what is right comes into force, and whatever goes wrong leaves the last good one there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod tls_support;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bonafide::{
    domain::identity::TrustRootName,
    gather::ports::{RootKeeper as _, TrustRoots as _},
    registry::Authorities,
    server::tls,
    trust::{
        Keeper, Roots,
        tuf::{self, Fetcher},
    },
};
use bonafide_kit::{sigstore::Sigstore, tuf::Tuf};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tls_support::TlsServer;
use tokio::net::TcpStream;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn object(mirror: &Tuf) -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"},
        "spec": {"tuf": {"mirror": mirror.url(), "root": mirror.root_json()}},
    })
}

fn root() -> String {
    Sigstore::new().trusted_root_json()
}

/// A keeper with an object of the mirror, and somebody who fetches.
struct World {
    mirror: Tuf,
    keeper: Arc<Keeper>,
    fetcher: Arc<Fetcher>,
}

impl World {
    async fn new(folder: Option<PathBuf>) -> Self {
        let mirror = Tuf::start().await;
        Self::of(mirror, folder)
    }

    fn of(mirror: Tuf, folder: Option<PathBuf>) -> Self {
        tls::install_crypto_provider();
        let keeper = Arc::new(Keeper::new(Roots::embedded().unwrap()));
        keeper.keep(&[object(&mirror)]);
        Self { mirror, keeper, fetcher: Arc::new(Fetcher::new(folder, Vec::new()).unwrap()) }
    }

    async fn bring(&self) -> bool {
        self.bring_at(Timestamp::now()).await
    }

    async fn bring_at(&self, now: Timestamp) -> bool {
        let [corp] = self.keeper.followed().try_into().unwrap();
        tuf::bring(&self.keeper, &self.fetcher, &corp, now).await
    }

    fn is_in_force(&self) -> bool {
        bonafide::gather::ports::RootKeeper::known(self.keeper.as_ref()).lack(&corp()).is_none()
    }

    /// What is said of the object.
    fn said(&self) -> String {
        self.keeper.report(&corp(), Timestamp::now()).unwrap().message
    }

    /// Fetches, which fails in these words, and leaves what was in force.
    async fn fails(&self, words: &str) {
        let before = (self.is_in_force(), self.keeper.generation());
        assert!(!self.bring().await);
        assert!(self.said().contains(words), "{}", self.said());
        assert_eq!((self.is_in_force(), self.keeper.generation()), before);
    }
}

fn corp() -> TrustRootName {
    TrustRootName("corp".to_owned())
}

#[tokio::test]
async fn what_is_fetched_comes_into_force_and_what_is_newer_replaces_it() {
    let world = World::new(None).await;
    assert!(!world.is_in_force());
    world.mirror.publish(1, &root(), DAY);
    assert!(world.bring().await && world.is_in_force(), "{}", world.said());
    let first = world.keeper.generation();
    assert!(world.bring().await);
    assert_eq!(world.keeper.generation(), first);
    world.mirror.publish(2, &root(), DAY);
    assert!(world.bring().await);
    assert_ne!(world.keeper.generation(), first);
}

#[tokio::test]
async fn a_mirror_that_is_away_takes_nothing_away() {
    let world = World::new(None).await;
    world.mirror.set_away(true);
    world.fails("503").await;
    assert!(!world.is_in_force());
    world.mirror.set_away(false);
    world.mirror.publish(1, &root(), DAY);
    assert!(world.bring().await && world.is_in_force());
    world.mirror.set_away(true);
    world.fails("503").await;
    assert!(world.is_in_force());
}

#[tokio::test]
async fn what_has_ended_is_not_taken_and_the_last_good_root_stays_beyond_its_end() {
    let world = World::new(None).await;
    world.mirror.publish(1, &root(), SignedDuration::from_hours(-1));
    world.fails("expired").await;
    assert!(!world.is_in_force());
    world.mirror.publish(2, &root(), DAY);
    assert!(world.bring().await && world.is_in_force());
    let generation = world.keeper.generation();
    assert!(!world.bring_at(Timestamp::now() + DAY + DAY).await);
    assert!(world.is_in_force() && world.said().contains("expired"), "{}", world.said());
    assert_eq!(world.keeper.generation(), generation);
}

#[tokio::test]
async fn what_was_tampered_with_is_not_taken() {
    for (file, from, to) in [
        ("timestamp.json", "\"version\":2", "\"version\":3"),
        ("2.snapshot.json", "\"version\":2", "\"version\":3"),
        ("2.targets.json", "\"length\":", "\"length\":1"),
    ] {
        let world = World::new(None).await;
        world.mirror.publish(1, &root(), DAY);
        assert!(world.bring().await);
        world.mirror.publish(2, &root(), DAY);
        world.mirror.tamper(file, |text| {
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1)
        });
        world.fails("").await;
        assert!(world.is_in_force(), "{file}");
    }
    // The root itself is another than the one that was signed.
    let world = World::new(None).await;
    let (signed, other) = (root(), root());
    world.mirror.publish_as(1, &signed, &other, DAY);
    world.fails("").await;
    assert!(!world.is_in_force());
    world.mirror.publish(2, &signed, DAY);
    assert!(world.bring().await && world.is_in_force(), "{}", world.said());
}

#[tokio::test]
async fn an_older_version_than_was_seen_is_not_taken() {
    let world = World::new(None).await;
    let older = root();
    world.mirror.publish(1, &older, DAY);
    assert!(world.bring().await);
    world.mirror.publish(2, &root(), DAY);
    assert!(world.bring().await);
    world.mirror.publish(1, &older, DAY);
    world.fails("").await;
    assert!(world.is_in_force());
}

#[tokio::test]
async fn another_repository_is_not_the_one_that_was_meant() {
    let (theirs, ours) = (Tuf::start().await, World::new(None).await);
    theirs.publish(1, &root(), DAY);
    let mut object = object(&theirs);
    object["spec"]["tuf"]["root"] = ours.mirror.root_json().into();
    ours.keeper.keep(&[object]);
    ours.fails("").await;
    assert!(!ours.is_in_force());
}

#[tokio::test]
async fn what_is_signed_and_is_no_trust_root_is_not_taken() {
    let world = World::new(None).await;
    world.mirror.publish(1, &root(), DAY);
    assert!(world.bring().await);
    world.mirror.publish(2, "{}", DAY);
    world.fails("trusted root").await;
    assert!(world.is_in_force());
}

#[tokio::test]
async fn a_folder_remembers_the_last_good_root_and_how_far_it_was() {
    let folder = std::env::temp_dir().join(format!("bonafide-tuf-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let world = World::new(Some(folder.clone())).await;
    let (older, newer) = (root(), root());
    world.mirror.publish(1, &older, DAY);
    assert!(world.bring().await);
    world.mirror.publish(2, &newer, DAY);
    assert!(world.bring().await);
    // Begun anew, with the mirror away, long after the metadata has ended.
    world.mirror.set_away(true);
    let again = World::of(world.mirror, Some(folder.clone()));
    let [followed] = again.keeper.followed().try_into().unwrap();
    let later = Timestamp::now() + DAY + DAY;
    let (json, at) = again.fetcher.kept(&followed, later).await.unwrap();
    assert!(json == newer && at <= Timestamp::now());
    // A mirror that goes back.
    again.mirror.set_away(false);
    again.mirror.publish(1, &older, DAY);
    again.fails("").await;
    // What somebody changed in the folder is not believed.
    let spoil = |path: PathBuf| {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_some_and(|end| end == "json") {
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, text.replace("\"version\":2", "\"version\":3")).unwrap();
            }
        }
    };
    let inside = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    spoil(inside);
    assert!(again.fetcher.kept(&followed, later).await.is_none());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn it_goes_on_by_itself_and_at_once_for_a_new_object() {
    let World { mirror, keeper, fetcher } = World::new(None).await;
    mirror.publish(1, &root(), DAY);
    keeper.keep(&[]);
    let running = tokio::spawn(tuf::run(Arc::clone(&keeper), fetcher));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mirror.asked(), 0);
    keeper.keep(&[object(&mirror)]);
    for _ in 0..200 {
        if keeper.report(&corp(), Timestamp::now()).unwrap().ready {
            running.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{:?}", keeper.report(&corp(), Timestamp::now()));
}

/// The roots that are built in have the repositories that they are followed from.
#[test]
fn the_built_in_repositories_have_roots() {
    let built_in = tuf::built_in();
    assert_eq!(built_in.len(), 2);
    for (name, source) in built_in {
        let object = json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "x"},
            "spec": {"tuf": {"mirror": source.mirror.as_str(), "root": source.root}},
        });
        assert_eq!(bonafide::trust::compile_trust_root(&object).errors, [], "{name}");
    }
}

/// Puts TLS before a mirror, and gives the URL and the authority of the certificate.
async fn behind_tls(mirror: &Tuf) -> (String, String) {
    let server = TlsServer::bind().await;
    let (url, to) = (server.url(), address(mirror));
    let TlsServer { listener, acceptor, authority } = server;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut mirror = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut mirror).await;
            });
        }
    });
    (url, authority)
}

fn address(mirror: &Tuf) -> String {
    mirror.url().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

#[tokio::test]
async fn a_mirrors_own_authority_is_believed_where_it_is_named() {
    tls::install_crypto_provider();
    let mirror = Tuf::start().await;
    mirror.publish(1, &root(), DAY);
    let (url, authority) = behind_tls(&mirror).await;
    let (_, other) = behind_tls(&mirror).await;
    let mut object = object(&mirror);
    object["spec"]["tuf"]["mirror"] = url.into();
    for (pem, is_believed) in [(Some(authority), true), (Some(other), false), (None, false)] {
        let mut authorities = Authorities::default();
        if let Some(pem) = pem {
            authorities.add_pem(pem.as_bytes()).unwrap();
        }
        let fetcher = Fetcher::new(None, authorities.into_certificates()).unwrap();
        let keeper = Keeper::new(Roots::embedded().unwrap());
        keeper.keep(std::slice::from_ref(&object));
        let [corp] = keeper.followed().try_into().unwrap();
        let is_fetched = tuf::bring(&keeper, &fetcher, &corp, Timestamp::now()).await;
        assert_eq!(is_fetched, is_believed, "{}", keeper.report(&corp.0, Timestamp::now()).unwrap().message);
    }
}
