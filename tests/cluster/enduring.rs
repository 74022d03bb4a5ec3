//! A hundred reviews a second, while all that they need is replaced under them: certificates and their authority, the Secret that
//! holds them, the configuration's bundle, the leader, the API server. Nobody notices, and nothing gets in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bonafide_kit::{
    plane::{ControlPlane, eventually},
    scenario::Scenario,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    certificate::Certificate, installation::Installation, keeping, objects, shared::alone, webhook::Webhook,
};

/// How many ask at once, and how often each: a hundred a second together.
const ASKING: u64 = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// How long each disturbance is given, in seconds, where this is not set: then a minute in all is over soon.
const PATIENCE: &str = "BONAFIDE_ENDURANCE_SECONDS";

/// What those who ask were told.
#[derive(Default)]
struct Told {
    over: AtomicBool,
    admitted: AtomicUsize,
    denied: AtomicUsize,
    away: AtomicUsize,
    /// What happens at the moment.
    phase: Mutex<Phase>,
    wrong: Mutex<Vec<(Phase, String)>>,
}

/// What is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Nothing,
    Bundle,
    Secret,
    Ended,
    Killed,
    ApiServer,
}

/// What nobody can prevent: until the leader has seen that the API server was told to trust somebody else, which takes it a moment, and
/// what was in flight to a process that is killed.
fn is_inevitable((phase, message): &(Phase, String)) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match phase {
        Phase::Bundle => says(&["certificate signed by unknown authority"]),
        Phase::Killed => {
            says(&["EOF", "closed network connection", "connection reset", "connection refused"])
        }
        Phase::Nothing | Phase::Secret | Phase::Ended | Phase::ApiServer => false,
    }
}

impl Told {
    fn begin(&self, phase: Phase) {
        println!("{phase:?}");
        *self.phase.lock() = phase;
    }

    fn complain(&self, what: &str) {
        let phase = *self.phase.lock();
        self.wrong.lock().push((phase, what.to_owned()));
    }

    /// Asks all the time: every tenth time for what must be denied.
    async fn ask(&self, pods: Api<Pod>, good: &str, bad: &str) {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        for turn in 0_u32.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let next = Instant::now() + PAUSE;
            let is_good = turn % 10 != 0;
            let mut pod = objects::pod("asked", if is_good { good } else { bad });
            pod["metadata"] = json!({"generateName": "asked-"});
            let pod = serde_json::from_value(pod).unwrap();
            match pods.create(&params, &pod).await {
                Ok(_) if is_good => drop(self.admitted.fetch_add(1, Ordering::Relaxed)),
                Ok(_) => self.complain("admitted what it must deny"),
                Err(kube::Error::Api(status)) if is_ours(&status.message) => {
                    let is_meant = !is_good && status.message.contains("NoProvenance");
                    if is_meant {
                        self.denied.fetch_add(1, Ordering::Relaxed);
                    } else {
                        self.complain(&status.message);
                    }
                }
                // The API server itself is away: whoever applies tries again.
                Err(_) => drop(self.away.fetch_add(1, Ordering::Relaxed)),
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

/// Whether the API server says it for our sake.
fn is_ours(message: &str) -> bool {
    message.contains("webhook") || message.contains("bonafide")
}

fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE).ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

fn bundle(plane: &ControlPlane) -> Result<String, String> {
    let configuration = plane.get(&["validatingwebhookconfiguration", "bonafide"])?;
    Ok(configuration["webhooks"][0]["clientConfig"]["caBundle"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_what_is_replaced_under_a_hundred_reviews_a_second() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "enduring", &world);
    let lifetimes =
        ["--set=certificates.selfManaged.lifetime=60s", "--set=certificates.selfManaged.caLifetime=180s"];
    release.helm("upgrade", &lifetimes);
    let mut replicas = vec![("one", release.replica("one")), ("two", release.replica("two"))];
    release.enforced();
    let namespace = plane.namespace("endured");
    namespace.apply(&world.policy().replace("namespace: shop", "namespace: endured")).ok();
    let (good, bad) = (world.image("shop"), world.image("bare"));
    eventually("the policy to be in force", || {
        let dry = ["create", "--dry-run=server", "-f", "-"];
        let ran = namespace.kubectl_reading(&dry, &objects::pod("asked", bad).to_string());
        if ran.worked { Err(ran.out) } else { Ok(()) }
    });

    let pods: Api<Pod> = Api::namespaced(keeping::client(&plane).await, "endured");
    let told = Arc::new(Told::default());
    let begun = Instant::now();
    let asking: Vec<_> = (0..ASKING)
        .map(|_| {
            let (told, pods) = (Arc::clone(&told), pods.clone());
            let (good, bad) = (good.to_owned(), bad.to_owned());
            tokio::spawn(async move { told.ask(pods, &good, &bad).await })
        })
        .collect();
    tokio::task::block_in_place(|| disturb(&plane, &release, &mut replicas, &told));
    told.over.store(true, Ordering::Relaxed);
    for asking in asking {
        asking.await.unwrap();
    }
    let [admitted, denied, away] =
        [&told.admitted, &told.denied, &told.away].map(|count| count.load(Ordering::Relaxed));
    println!("{admitted} admitted, {denied} denied, {away} without an API server, in {:?}", begun.elapsed());
    let (inevitable, wrong): (Vec<_>, Vec<_>) =
        std::mem::take(&mut *told.wrong.lock()).into_iter().partition(is_inevitable);
    println!("{} of them could not be prevented", inevitable.len());
    assert!(wrong.is_empty(), "{} of them: {wrong:#?}", wrong.len());
    // A second's worth, were it as long as that.
    assert!(inevitable.len() < 100, "{inevitable:#?}");
    assert!(admitted > 500 && denied > 50, "{admitted} {denied}");
}

fn holder(plane: &ControlPlane) -> Result<String, String> {
    let lease = plane.get(&["--namespace=enduring", "lease", "bonafide"])?;
    lease["spec"]["holderIdentity"].as_str().map(ToOwned::to_owned).ok_or_else(|| "nobody".to_owned())
}

fn disturb<'a>(
    plane: &ControlPlane,
    release: &Installation<'_>,
    replicas: &mut Vec<(&'a str, Webhook)>,
    told: &Told,
) {
    let rest = || std::thread::sleep(patience());
    rest();

    told.begin(Phase::Bundle);
    let stranger = Certificate::of("stranger").ca_bundle();
    let patch = json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": stranger}]);
    let patch = patch.to_string();
    let kind = "validatingwebhookconfiguration";
    plane.kubectl(&["patch", kind, "bonafide", "--type=json", "--patch", &patch]).ok();
    eventually("the bundle to be ours again", || match bundle(plane)? {
        bundle if bundle.contains(&stranger) => Err("it is the stranger's".to_owned()),
        _ => Ok(()),
    });
    rest();

    told.begin(Phase::Secret);
    let before = bundle(plane).unwrap();
    plane.kubectl(&["--namespace=enduring", "delete", "secret", "bonafide-tls"]).ok();
    eventually("another authority to be trusted", || {
        plane.get(&["--namespace=enduring", "secret", "bonafide-tls"])?;
        if bundle(plane)? == before { Err("it is the same".to_owned()) } else { Ok(()) }
    });
    rest();

    let mut replace = |phase: Phase, name: &'a str| {
        replicas.push((name, release.replica(name)));
        let leader = holder(plane).unwrap();
        let at = replicas.iter().position(|(name, _)| *name == leader).unwrap();
        let (_, leader) = replicas.remove(at);
        told.begin(phase);
        let port = leader.port;
        if phase == Phase::Killed {
            release.service.remove(port);
            drop(leader);
        } else {
            std::thread::scope(|scope| {
                let ending = scope.spawn(|| leader.stop());
                // The time that a cluster takes to tell everybody.
                std::thread::sleep(Duration::from_secs(2));
                release.service.remove(port);
                assert!(ending.join().unwrap().success());
            });
        }
        eventually("another leader", || {
            let holder = holder(plane)?;
            if replicas.iter().any(|(name, _)| *name == holder) { Ok(()) } else { Err(holder) }
        });
        rest();
    };
    replace(Phase::Ended, "three");
    replace(Phase::Killed, "four");

    told.begin(Phase::ApiServer);
    plane.stop_api_server();
    std::thread::sleep(Duration::from_secs(1));
    plane.start_api_server();
    rest();
}
