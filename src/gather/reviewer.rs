//! The review: plan → gather → evaluate, with the verdicts of earlier reviews in front.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use super::{
    facts::{Facts, Known},
    flight::Freshness,
    lanes::Errand,
    ports::{Agents, Attestations, Keychain, Observer, PullSecret, Snapshot, TrustRoots},
    review::{Phases, Review, ReviewedImage},
    weigh::{self, capped},
};
use crate::domain::{
    digest::Digest,
    evaluate::{evaluate, unavailable},
    evidence::FetchError,
    placement,
    plan::{ImagePlan, Plan, Stage, plan},
    policy::{Labels, NAME_LABEL, Scope},
    reference::Repository,
    verdict::{ImageVerdict, Outcome, Problem, Reason},
    workload::{Placement, Platforms, Workload, WorkloadImage},
};

/// How old evidence may be to say no: attestations arrive seconds after the push.
const DENIAL_AGE: Duration = Duration::from_secs(5);
/// How many bytes of verdicts are kept.
const VERDICT_BYTES: u64 = 64 << 20;
/// The longest reference of which the verdict is kept: no valid one is longer.
const LONGEST_KEPT: usize = 1024;
/// How many bytes of placements are kept.
const LANDING_BYTES: u64 = 4 << 20;
/// The largest placement of which it is kept where it lands: looking for it takes longer than working it out.
const LARGEST_PLACEMENT: usize = 16 << 10;
/// How many images of one workload are judged at once.
const AT_ONCE: usize = 16;

/// Judges workloads and single images. One for the process's life: it owns the caches.
pub struct Reviewer {
    facts: Facts,
    observer: Arc<dyn Observer>,
    verdicts: moka::sync::Cache<VerdictKey, Kept>,
    /// Where a placement lands among the nodes of a generation.
    landings: moka::sync::Cache<(u64, Placement), Arc<Platforms>>,
    /// In a cluster, where workloads bring their own credentials.
    pulling: Option<Pulling>,
}

/// How registries are asked in the name of a workload.
#[derive(Clone)]
pub struct Pulling {
    /// What workloads pull with.
    pub keychain: Arc<dyn Keychain>,
    /// Who asks with it.
    pub agents: Arc<dyn Agents>,
}

/// What is the same for all images of a review.
struct Asking<'a> {
    snapshot: &'a Snapshot,
    scope: Scope<'a>,
    platforms: &'a Arc<Platforms>,
    stage: Stage,
    errand: Errand,
    /// Whose images they are; `None` for an image that is nobody's yet.
    workload: Option<&'a Workload>,
    /// What the workload pulls with, once somebody needs it.
    secrets: OnceCell<Vec<PullSecret>>,
}

/// All that a verdict depends on, but for what the registry says.
#[derive(Clone, PartialEq, Eq, Hash)]
struct VerdictKey {
    /// `None`: every policy, whatever namespace it is for.
    namespace: Option<String>,
    image: String,
    /// What the tag stood for; `None` where the image's text alone decides.
    resolved: Option<Digest>,
    platforms: Arc<Platforms>,
    stage: Stage,
    policies: u64,
    trust: u64,
}

impl VerdictKey {
    fn bytes(&self) -> usize {
        let namespace = self.namespace.as_ref().map_or(0, String::len);
        [size_of::<Self>(), namespace, self.image.len(), weigh::platforms(&self.platforms)].iter().sum()
    }
}

#[derive(Clone)]
struct Kept {
    verdict: Arc<ImageVerdict>,
    at: Instant,
}

impl Kept {
    fn holds(&self) -> bool {
        let in_time = self.verdict.valid_until.is_none_or(|end| Timestamp::now() < end);
        in_time && (is_settled(&self.verdict) || self.at.elapsed() <= DENIAL_AGE)
    }
}

impl Reviewer {
    /// A reviewer with empty caches.
    pub fn new(
        attestations: Arc<dyn Attestations>,
        trust: Arc<dyn TrustRoots>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let facts = Facts::new(attestations, trust, Arc::clone(&observer));
        Self {
            facts,
            observer,
            verdicts: moka::sync::Cache::builder()
                .max_capacity(VERDICT_BYTES)
                .weigher(|key: &VerdictKey, kept: &Kept| {
                    capped(key.bytes().saturating_add(weigh::verdict(&kept.verdict)))
                })
                .build(),
            landings: moka::sync::Cache::builder()
                .max_capacity(LANDING_BYTES)
                .weigher(|(_, placement): &(u64, Placement), platforms: &Arc<Platforms>| {
                    capped(weigh::placement(placement).saturating_add(weigh::platforms(platforms)))
                })
                .build(),
            pulling: None,
        }
    }

    /// The reviewer with workloads' own credentials.
    #[must_use]
    pub fn pulling(self, pulling: Pulling) -> Self {
        Self { pulling: Some(pulling), ..self }
    }

    /// Judges every image of a workload in the workload's namespace. Never fails: what could not be found out by `deadline`
    /// is in the answer.
    pub async fn review(
        &self,
        snapshot: &Arc<Snapshot>,
        workload: &Workload,
        stage: Stage,
        deadline: Instant,
    ) -> Review {
        if let Some(refused) = Review::of_too_many(workload) {
            return refused;
        }
        let platforms = self.landing(snapshot, &workload.placement);
        let mut judged: Vec<(&str, Arc<ImageVerdict>, Phases)> = Vec::with_capacity(workload.images.len());
        let mut unknown: Vec<&str> = Vec::new();
        for WorkloadImage { image, .. } in &workload.images {
            if judged.iter().any(|(known, ..)| known == image) || unknown.contains(&image.as_str()) {
                continue;
            }
            let start = Instant::now();
            match self.recall(&self.key(snapshot, Some(&workload.namespace), image, &platforms, stage)) {
                Some(verdict) => {
                    let phases = Phases { plan: start.elapsed(), ..Phases::default() };
                    judged.push((image, verdict, phases));
                }
                None => unknown.push(image),
            }
        }
        if !unknown.is_empty() {
            let all = self.judge_all(snapshot, workload, unknown, &platforms, stage, deadline);
            judged.extend(all.await);
        }

        let mut review = Review { outcome: Outcome::Allow, images: Vec::new(), phases: Phases::default() };
        for (_, _, phases) in &judged {
            review.phases.plan = review.phases.plan.max(phases.plan);
            review.phases.gather = review.phases.gather.max(phases.gather);
            review.phases.evaluate = review.phases.evaluate.max(phases.evaluate);
        }
        for image in &workload.images {
            if let Some((_, verdict, _)) = judged.iter().find(|(known, ..)| *known == image.image) {
                review.images.push(ReviewedImage { image: image.clone(), verdict: Arc::clone(verdict) });
            }
        }
        review.outcome = worst(&review.images);
        review
    }

    /// The platforms a pod can land on. An unknown `RuntimeClass` narrows nothing.
    fn landing(&self, snapshot: &Snapshot, placement: &Placement) -> Arc<Platforms> {
        let land = || {
            let class = placement.runtime_class.as_ref().and_then(|name| snapshot.runtime_classes.get(name));
            let joined = class.map(|selector| placement::of_class(placement, selector));
            let placement = joined.as_ref().unwrap_or(placement);
            Arc::new(placement::platforms(placement, &snapshot.nodes, &snapshot.platforms))
        };
        if weigh::placement(placement) > LARGEST_PLACEMENT {
            return land();
        }
        self.landings.get_with((snapshot.landscape, placement.clone()), land)
    }

    /// Judges images that no earlier verdict is at hand for, at once.
    async fn judge_all<'a>(
        &self,
        snapshot: &Snapshot,
        workload: &Workload,
        images: Vec<&'a str>,
        platforms: &Arc<Platforms>,
        stage: Stage,
        deadline: Instant,
    ) -> Vec<(&'a str, Arc<ImageVerdict>, Phases)> {
        // Of a namespace that is not known one label is: the one that Kubernetes gives to each.
        let namespace = workload.namespace.as_str();
        let named;
        let labels = if let Some(labels) = snapshot.namespaces.get(namespace) {
            Labels::All(labels)
        } else {
            named = BTreeMap::from([(NAME_LABEL.to_owned(), namespace.to_owned())]);
            Labels::Some(&named)
        };
        let asking = &Asking {
            snapshot,
            scope: Scope::Namespace { name: namespace, labels },
            platforms,
            stage,
            errand: self.facts.errand(Some(namespace), deadline),
            workload: Some(workload),
            secrets: OnceCell::new(),
        };
        let judging = images.into_iter().map(|image| async move {
            let (verdict, phases) = self.judge(asking, image).await;
            (image, verdict, phases)
        });
        stream::iter(judging.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
    }

    fn key(
        &self,
        snapshot: &Snapshot,
        namespace: Option<&str>,
        image: &str,
        platforms: &Arc<Platforms>,
        stage: Stage,
    ) -> VerdictKey {
        VerdictKey {
            namespace: namespace.map(ToOwned::to_owned),
            image: image.to_owned(),
            resolved: None,
            platforms: Arc::clone(platforms),
            stage,
            policies: snapshot.policies.generation,
            trust: self.facts.trust_generation(),
        }
    }

    /// Judges one image, as it was written.
    pub async fn verify_image(
        &self,
        snapshot: &Arc<Snapshot>,
        scope: Scope<'_>,
        image: &str,
        platforms: &Platforms,
        deadline: Instant,
    ) -> Arc<ImageVerdict> {
        let asking = Asking {
            snapshot,
            scope,
            platforms: &Arc::new(platforms.clone()),
            stage: Stage::Final,
            errand: self.facts.errand(None, deadline),
            workload: None,
            secrets: OnceCell::new(),
        };
        self.judge(&asking, image).await.0
    }

    /// How many bytes each cache holds.
    pub fn cache_bytes(&self) -> Vec<(&'static str, u64)> {
        let own = [("verdicts", weigh::held(&self.verdicts)), ("placements", weigh::held(&self.landings))];
        own.into_iter().chain(self.facts.cache_bytes()).collect()
    }

    /// The errand in the name of the workload, where it brings a credential for the repository.
    async fn acting(&self, asking: &Asking<'_>, repository: &Repository) -> Errand {
        let (Some(pulling), Some(workload)) = (&self.pulling, asking.workload) else {
            return asking.errand.clone();
        };
        let read = || async {
            let read = pulling.keychain.of(workload);
            timeout_at(asking.errand.deadline, read).await.unwrap_or_default()
        };
        let secrets = asking.secrets.get_or_init(read).await;
        asking.errand.acting(pulling.agents.acting_for(secrets, repository))
    }

    async fn judge(&self, asking: &Asking<'_>, image: &str) -> (Arc<ImageVerdict>, Phases) {
        let Asking { snapshot, scope, platforms, stage, .. } = *asking;
        let mut phases = Phases::default();
        let start = Instant::now();
        let namespace = match scope {
            Scope::Everywhere => None,
            Scope::Namespace { name, .. } => Some(name),
        };
        let mut key = self.key(snapshot, namespace, image, platforms, stage);
        if let Some(verdict) = self.recall(&key) {
            phases.plan = start.elapsed();
            return (verdict, phases);
        }
        let asked = match plan(&snapshot.policies, scope, snapshot.unmatched, stage, image) {
            Plan::Settled(verdict) => {
                phases.plan = start.elapsed();
                return (self.keep(key, *verdict), phases);
            }
            Plan::Ask(asked) => asked,
        };
        phases.plan = start.elapsed();
        let errand = &self.acting(asking, asked.reference.repository()).await;
        let digest = match self.facts.digest(&asked.reference, errand).await {
            Ok(digest) => digest,
            Err(error) => {
                phases.gather = start.elapsed();
                return (Arc::new(unavailable(&asked, None, &error)), phases);
            }
        };
        if asked.reference.digest().is_none() {
            key.resolved = Some(digest);
            if let Some(verdict) = self.recall(&key) {
                phases.gather = start.elapsed();
                return (verdict, phases);
            }
        }
        self.observer.cache("verdicts", false);
        let verdict = match self.find_out(&asked, platforms, digest, errand, &mut phases).await {
            Ok(verdict) => self.keep(key, verdict),
            Err(error) => Arc::new(unavailable(&asked, Some(digest), &error)),
        };
        phases.gather = start.elapsed().saturating_sub(phases.plan).saturating_sub(phases.evaluate);
        (verdict, phases)
    }

    fn recall(&self, key: &VerdictKey) -> Option<Arc<ImageVerdict>> {
        let verdict = self.verdicts.get(key).filter(Kept::holds)?.verdict;
        self.observer.cache("verdicts", true);
        Some(verdict)
    }

    /// Keeps a verdict unless it says that something could not be found out.
    fn keep(&self, key: VerdictKey, verdict: ImageVerdict) -> Arc<ImageVerdict> {
        let verdict = Arc::new(verdict);
        let keepable = key.image.len() <= LONGEST_KEPT
            && !findings(&verdict).any(|problem| problem.reason.is_transient());
        if keepable {
            self.verdicts.insert(key, Kept { verdict: Arc::clone(&verdict), at: Instant::now() });
        }
        verdict
    }

    /// Facts of any age are good for a yes; a no is given on fresh ones only.
    async fn find_out(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        errand: &Errand,
        phases: &mut Phases,
    ) -> Result<ImageVerdict, FetchError> {
        let (verdict, oldest) =
            self.attempt(asked, platforms, digest, Freshness::Any, errand, phases).await?;
        if is_settled(&verdict) || oldest.elapsed() <= DENIAL_AGE {
            return Ok(verdict);
        }
        let fresh = Freshness::Within(DENIAL_AGE);
        Ok(self.attempt(asked, platforms, digest, fresh, errand, phases).await?.0)
    }

    async fn attempt(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        freshness: Freshness,
        errand: &Errand,
        phases: &mut Phases,
    ) -> Result<(ImageVerdict, Instant), FetchError> {
        let repository = asked.reference.repository();
        let mut evaluated = |known: &Known| {
            let start = Instant::now();
            let verdict = evaluate(asked, platforms, &known.facts, Timestamp::now());
            phases.evaluate = phases.evaluate.saturating_add(start.elapsed());
            verdict
        };
        let keys = asked.keys();
        let mut known = self.facts.of_root(repository, digest, freshness, errand).await?;
        self.facts.check_keys(&mut known, &keys, errand).await?;
        let verdict = evaluated(&known);
        let mut uncovered: Vec<Digest> = findings(&verdict).filter_map(|problem| problem.digest).collect();
        uncovered.sort_unstable();
        uncovered.dedup();
        uncovered.retain(|manifest| *manifest != digest);
        if uncovered.is_empty() {
            return Ok((verdict, known.oldest));
        }
        self.facts.add_manifests(&mut known, repository, uncovered, freshness, errand).await;
        self.facts.check_keys(&mut known, &keys, errand).await?;
        Ok((evaluated(&known), known.oldest))
    }
}

fn findings(verdict: &ImageVerdict) -> impl Iterator<Item = &Problem> {
    verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit)
}

/// Whether nothing that the registry may say later changes the verdict for the better.
fn is_settled(verdict: &ImageVerdict) -> bool {
    findings(verdict).all(|problem| {
        matches!(
            problem.reason,
            Reason::PlatformMissing
                | Reason::UnpinnedTag
                | Reason::UnmatchedImage
                | Reason::InvalidReference
                | Reason::TooManyImages
                | Reason::InvalidPolicy
        )
    })
}

/// One definite no is enough; only where every no may heal is it worth asking again.
fn worst(images: &[ReviewedImage]) -> Outcome {
    let outcomes = || images.iter().map(|image| image.verdict.outcome);
    if outcomes().any(|outcome| outcome == Outcome::Deny) {
        return Outcome::Deny;
    }
    outcomes().max().unwrap_or(Outcome::Allow)
}
