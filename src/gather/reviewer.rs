//! The review: plan → gather → evaluate, with the verdicts of earlier reviews in front.

mod attempt;
mod index_hint;
mod places;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use places::Places;

pub use super::ports::Pulling;
use super::{
    evaluation::planned,
    facts::Facts,
    landings::Landings,
    lanes::Errand,
    late::{HASTE, LateLookup, LateLookups, is_late},
    ports::{Attestations, Observer, PullSecret, Snapshot, TrustRoots},
    review::{MAX_IMAGES, Phases, Review, ReviewedImage, worst},
    verdicts::{Question, Verdicts, findings},
};
use crate::domain::{
    compiled_pattern::CompiledPattern,
    digest::Digest,
    evaluate::unavailable,
    evidence::FetchError,
    plan::{ImagePlan, Plan, Stage, is_placeholder, placeholder, unplanned},
    policy::{Labels, NAME_LABEL, Scope},
    reference::Repository,
    verdict::{ImageVerdict, Outcome},
    workload::{Platforms, Workload},
};

/// How many images of one workload are judged at once.
const AT_ONCE: usize = 16;
/// How long an image may take of which no policy denies anything: nobody's pod waits longer for a finding.
const WITHOUT_DENIAL: Duration = Duration::from_millis(900);
/// Judges workloads and single images. One for the process's life: it owns the caches.
pub struct Reviewer {
    facts: Facts,
    observer: Arc<dyn Observer>,
    verdicts: Verdicts,
    landings: Landings,
    late: LateLookups,
    /// Whether an image that no policy denies may take as long as any other.
    is_patient: bool,
    /// In a cluster, where workloads bring their own credentials.
    pulling: Option<Pulling>,
}

/// What is the same for all images of a review.
struct Asking<'a> {
    snapshot: &'a Arc<Snapshot>,
    scope: Scope<'a>,
    platforms: &'a Arc<Platforms>,
    stage: Stage,
    errand: Errand,
    /// Whose images they are; `None` for an image that is nobody's yet.
    workload: Option<&'a Workload>,
    /// When it began.
    begun: Instant,
    /// What the workload pulls with, once somebody needs it.
    secrets: OnceCell<Vec<PullSecret>>,
    /// The verdicts about digests that several of its tags stand for.
    of_digests: Mutex<HashMap<(Repository, Digest), Arc<OfDigest>>>,
}

/// The verdict about a digest, once somebody of the review has it.
type OfDigest = OnceCell<Result<Arc<ImageVerdict>, FetchError>>;

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
            verdicts: Verdicts::default(),
            landings: Landings::default(),
            late: LateLookups::default(),
            is_patient: false,
            pulling: None,
        }
    }

    /// The reviewer for a person who waits: what no policy denies may take as long as everything else.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// The reviewer with workloads' own credentials.
    #[must_use]
    pub fn pulling(self, pulling: Pulling) -> Self {
        Self { pulling: Some(pulling), ..self }
    }

    /// The review of a workload of which every verdict is at hand: nobody is asked anything.
    pub fn known(&self, snapshot: &Snapshot, workload: &Workload, stage: Stage) -> Option<Review> {
        let start = Instant::now();
        if workload.images.len() > MAX_IMAGES
            || workload.images.iter().any(|image| stands_in(workload, &image.image))
        {
            return None;
        }
        let platforms = self.landings.of(snapshot, &workload.placement);
        let mut images: Vec<ReviewedImage> = Vec::with_capacity(workload.images.len());
        let mut recalled = 0_usize;
        for image in &workload.images {
            let known = images.iter().find(|known| known.image.image == image.image);
            let verdict = if let Some(known) = known {
                Arc::clone(&known.verdict)
            } else {
                recalled = recalled.saturating_add(1);
                let namespace = Some(workload.namespace.as_str());
                self.verdicts.get(self.question(snapshot, namespace, &image.image, &platforms, stage))?
            };
            images.push(ReviewedImage { image: Arc::clone(image), verdict });
        }
        (0..recalled).for_each(|_| self.observer.cache("verdicts", true));
        let phases = Phases { plan: start.elapsed(), ..Phases::default() };
        Some(Review { outcome: worst(&images), images, phases })
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
        let errand = self.facts.errand(Some(&workload.namespace), deadline);
        let platforms = self.landings.of(snapshot, &workload.placement);
        let mut judged: Vec<(&str, Arc<ImageVerdict>, Phases)> = Vec::with_capacity(workload.images.len());
        let mut unknown: Vec<&str> = Vec::new();
        for image in &workload.images {
            let image = image.image.as_str();
            if judged.iter().any(|(known, ..)| *known == image) || unknown.contains(&image) {
                continue;
            }
            if stands_in(workload, image) {
                unknown.push(image);
                continue;
            }
            let start = Instant::now();
            match self.recall(self.question(snapshot, Some(&workload.namespace), image, &platforms, stage)) {
                Some(verdict) => {
                    let phases = Phases { plan: start.elapsed(), ..Phases::default() };
                    judged.push((image, errand.hold_verdict(verdict), phases));
                }
                None => unknown.push(image),
            }
        }
        if !unknown.is_empty() {
            let all = self.judge_all(snapshot, workload, unknown, &platforms, stage, errand);
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
                review.images.push(ReviewedImage { image: Arc::clone(image), verdict: Arc::clone(verdict) });
            }
        }
        review.outcome = worst(&review.images);
        review
    }

    /// Judges images that no earlier verdict is at hand for, at once.
    async fn judge_all<'a>(
        &self,
        snapshot: &Arc<Snapshot>,
        workload: &Workload,
        images: Vec<&'a str>,
        platforms: &Arc<Platforms>,
        stage: Stage,
        errand: Errand,
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
            errand,
            workload: Some(workload),
            begun: Instant::now(),
            secrets: OnceCell::new(),
            of_digests: Mutex::default(),
        };
        let judging = images.into_iter().map(|image| async move {
            let (verdict, phases) = self.judge(asking, image).await;
            (image, asking.errand.hold_verdict(verdict), phases)
        });
        stream::iter(judging.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
    }

    fn question<'a>(
        &self,
        snapshot: &Snapshot,
        namespace: Option<&'a str>,
        image: &'a str,
        platforms: &'a Arc<Platforms>,
        stage: Stage,
    ) -> Question<'a> {
        let (policies, trust) = (snapshot.policies.generation, self.facts.trust_generation());
        Question { namespace, image, resolved: None, platforms, stage, policies, trust }
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
            begun: Instant::now(),
            secrets: OnceCell::new(),
            of_digests: Mutex::default(),
        };
        self.judge(&asking, image).await.0
    }

    /// How many bytes each cache holds.
    pub fn cache_bytes(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("verdicts", self.verdicts.bytes()),
            ("placements", self.landings.bytes()),
            ("late_lookups", self.late.bytes()),
            ("patterns", u64::try_from(CompiledPattern::bytes_in_use()).unwrap_or(u64::MAX)),
            ("credentials", self.pulling.as_ref().map_or(0, |pulling| pulling.agents.bytes())),
        ];
        own.into_iter().chain(self.facts.cache_bytes()).collect()
    }

    /// The errand in the name of the workload, where it brings a credential for the repository.
    async fn acting(&self, asking: &Asking<'_>, errand: &Errand, repository: &Repository) -> Errand {
        let (Some(pulling), Some(workload)) = (&self.pulling, asking.workload) else {
            return errand.clone();
        };
        let read = || async {
            let read = pulling.keychain.of(workload);
            timeout_at(asking.errand.deadline, read).await.unwrap_or_default()
        };
        // An image that may take less time does not wait for the others' secrets either.
        let secrets = timeout_at(errand.deadline, asking.secrets.get_or_init(read)).await;
        let secrets = secrets.map(Vec::as_slice).unwrap_or_default();
        errand.acting(pulling.agents.acting_for(secrets, repository))
    }

    async fn judge(&self, asking: &Asking<'_>, image: &str) -> (Arc<ImageVerdict>, Phases) {
        let Asking { snapshot, scope, platforms, stage, .. } = *asking;
        let mut phases = Phases::default();
        let start = Instant::now();
        let namespace = match scope {
            Scope::Everywhere => None,
            Scope::Namespace { name, .. } => Some(name),
        };
        if asking.workload.is_some_and(|workload| stands_in(workload, image)) {
            let verdict = placeholder(&snapshot.policies, scope, snapshot.unmatched, image);
            return (Arc::new(verdict), phases);
        }
        let question = self.question(snapshot, namespace, image, platforms, stage);
        if let Some(verdict) = self.recall(question) {
            phases.plan = start.elapsed();
            return (verdict, phases);
        }
        let planned = match planned(snapshot, scope, stage, image, &asking.errand).await {
            Ok(planned) => planned,
            Err(error) => {
                let verdict = unplanned(&snapshot.policies, scope, snapshot.unmatched, image, &error);
                return (Arc::new(verdict), phases);
            }
        };
        let asked = match planned {
            Plan::Settled(verdict) => {
                phases.plan = start.elapsed();
                return (self.verdicts.keep(question, *verdict), phases);
            }
            Plan::Ask(asked) => asked,
        };
        phases.plan = start.elapsed();
        let enforces = asked.enforces();
        let mut errand = asking.errand.clone();
        if let Some(end) = self.without_denial(asking).filter(|_| !enforces) {
            errand = errand.lenient().until(end);
        }
        let mut errand = self.acting(asking, &errand, asked.reference.repository()).await;
        let late = asking.workload.map(|workload| LateLookup {
            namespace: workload.namespace.clone(),
            image: image.to_owned(),
            credential: errand.credential(),
            enforces,
        });
        if late.as_ref().is_some_and(|late| self.late.contains(late, errand.left())) {
            errand = errand.until(Instant::now() + HASTE);
        }
        let found = self.find(asking, question, &asked, &errand, &mut phases).await;
        let verdict = match found {
            Ok(verdict) => verdict,
            Err((digest, error)) => Arc::new(unavailable(&asked, digest, &error)),
        };
        if let Some(late) = late.filter(|_| is_late(findings(&verdict))) {
            // What denies is not hurried for the sake of what does not.
            if !enforces || is_late(verdict.problems.iter()) {
                self.late.insert(late, start);
            } else if let Some(workload) = asking.workload {
                let repositories = asked.attestation_repositories().into_iter();
                repositories.filter(|repository| !asked.enforces_with(repository)).for_each(|repository| {
                    self.late.insert(LateLookup::elsewhere(workload, repository), start);
                });
            }
        }
        phases.gather = start.elapsed().saturating_sub(phases.plan).saturating_sub(phases.evaluate);
        (verdict, phases)
    }

    /// Judges an image that policies name; where not even the image can be looked at, why, with the digest where that is known.
    async fn find(
        &self,
        asking: &Asking<'_>,
        mut question: Question<'_>,
        asked: &ImagePlan,
        errand: &Errand,
        phases: &mut Phases,
    ) -> Result<Arc<ImageVerdict>, (Option<Digest>, FetchError)> {
        let digest = self.facts.digest(&asked.reference, errand).await.map_err(|error| (None, error))?;
        let failed = |error| (Some(digest), error);
        if asked.reference.digest().is_none() {
            question.resolved = Some(digest);
            if let Some(verdict) = self.recall(question) {
                return Ok(verdict);
            }
        }
        self.observer.cache("verdicts", false);
        let is_shared = asked.reference.digest().is_none() && !asked.depends_on_tag();
        let Some(of_digest) = is_shared.then(|| asked.of_digest(digest)).flatten() else {
            let places = &self.places(asking, asked, errand).await;
            let found = Box::pin(self.find_out(asked, asking.platforms, digest, places, phases)).await;
            let mut verdict = found.map_err(failed)?;
            Box::pin(self.point_to_index(asked, asking.platforms, digest, places, &mut verdict)).await;
            return Ok(self.verdicts.keep(question, verdict));
        };
        let key = (asked.reference.repository().clone(), digest);
        let cell = Arc::clone(asking.of_digests.lock().entry(key).or_default());
        let of_digest = &of_digest;
        let judge = async {
            let question = Question { image: of_digest.reference.written(), resolved: None, ..question };
            if let Some(verdict) = self.recall(question) {
                return Ok(verdict);
            }
            let places = &self.places(asking, of_digest, errand).await;
            let found = Box::pin(self.find_out(of_digest, asking.platforms, digest, places, phases)).await?;
            Ok(asking.errand.hold_verdict(self.verdicts.keep(question, found)))
        };
        let found = cell.get_or_init(|| judge).await.as_ref().map_err(|error| failed(error.clone()))?;
        Ok(self.verdicts.keep(question, asked.for_tag(found)))
    }

    fn recall(&self, question: Question<'_>) -> Option<Arc<ImageVerdict>> {
        let verdict = self.verdicts.get(question)?;
        self.observer.cache("verdicts", true);
        Some(verdict)
    }
}

/// Whether a template names no image there yet.
fn stands_in(workload: &Workload, image: &str) -> bool {
    workload.kind != "Pod" && is_placeholder(image)
}
