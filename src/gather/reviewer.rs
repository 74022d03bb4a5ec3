//! The review: plan → gather → evaluate, with the verdicts of earlier reviews in front.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use super::{
    facts::{Facts, Known, Place},
    flight::Freshness,
    landings::Landings,
    lanes::Errand,
    ports::{Agents, Attestations, Keychain, Observer, PullSecret, Snapshot, TrustRoots},
    review::{MAX_IMAGES, Phases, Review, ReviewedImage},
    verdicts::{DENIAL_AGE, Question, Verdicts, findings, is_settled},
};
use crate::domain::{
    digest::Digest,
    evaluate::{evaluate, unavailable},
    evidence::{FetchError, FetchErrorKind, ImageFacts},
    plan::{ImagePlan, Plan, Stage, plan},
    policy::{Labels, NAME_LABEL, Scope},
    reference::Repository,
    verdict::{ImageVerdict, Outcome},
    workload::{Platforms, Workload},
};

/// How many images of one workload are judged at once.
const AT_ONCE: usize = 16;

/// Judges workloads and single images. One for the process's life: it owns the caches.
pub struct Reviewer {
    facts: Facts,
    observer: Arc<dyn Observer>,
    verdicts: Verdicts,
    landings: Landings,
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

/// Where an image is, and where else its attestations are looked for.
struct Places<'a> {
    home: Place<'a>,
    elsewhere: Vec<Place<'a>>,
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

impl Reviewer {
    /// A reviewer with empty caches.
    pub fn new(
        attestations: Arc<dyn Attestations>,
        trust: Arc<dyn TrustRoots>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let facts = Facts::new(attestations, trust, Arc::clone(&observer));
        Self { facts, observer, verdicts: Verdicts::default(), landings: Landings::default(), pulling: None }
    }

    /// The reviewer with workloads' own credentials.
    #[must_use]
    pub fn pulling(self, pulling: Pulling) -> Self {
        Self { pulling: Some(pulling), ..self }
    }

    /// The review of a workload of which every verdict is at hand: nobody is asked anything.
    pub fn known(&self, snapshot: &Snapshot, workload: &Workload, stage: Stage) -> Option<Review> {
        let start = Instant::now();
        if workload.images.len() > MAX_IMAGES {
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
        let platforms = self.landings.of(snapshot, &workload.placement);
        let mut judged: Vec<(&str, Arc<ImageVerdict>, Phases)> = Vec::with_capacity(workload.images.len());
        let mut unknown: Vec<&str> = Vec::new();
        for image in &workload.images {
            let image = image.image.as_str();
            if judged.iter().any(|(known, ..)| *known == image) || unknown.contains(&image) {
                continue;
            }
            let start = Instant::now();
            match self.recall(self.question(snapshot, Some(&workload.namespace), image, &platforms, stage)) {
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
                review.images.push(ReviewedImage { image: Arc::clone(image), verdict: Arc::clone(verdict) });
            }
        }
        review.outcome = worst(&review.images);
        review
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
            secrets: OnceCell::new(),
        };
        self.judge(&asking, image).await.0
    }

    /// How many bytes each cache holds.
    pub fn cache_bytes(&self) -> Vec<(&'static str, u64)> {
        let own = [("verdicts", self.verdicts.bytes()), ("placements", self.landings.bytes())];
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

    /// Where attestations are looked for, each in the name of whoever may look there.
    async fn places<'a>(&self, asking: &Asking<'_>, asked: &'a ImagePlan, errand: &Errand) -> Places<'a> {
        let mut elsewhere = Vec::new();
        for repository in asked.attestation_repositories() {
            elsewhere.push(Place { repository, errand: self.acting(asking, repository).await });
        }
        Places { home: Place { repository: asked.reference.repository(), errand: errand.clone() }, elsewhere }
    }

    async fn judge(&self, asking: &Asking<'_>, image: &str) -> (Arc<ImageVerdict>, Phases) {
        let Asking { snapshot, scope, platforms, stage, .. } = *asking;
        let mut phases = Phases::default();
        let start = Instant::now();
        let namespace = match scope {
            Scope::Everywhere => None,
            Scope::Namespace { name, .. } => Some(name),
        };
        let mut question = self.question(snapshot, namespace, image, platforms, stage);
        if let Some(verdict) = self.recall(question) {
            phases.plan = start.elapsed();
            return (verdict, phases);
        }
        let asked = match plan(&snapshot.policies, scope, snapshot.unmatched, stage, image) {
            Plan::Settled(verdict) => {
                phases.plan = start.elapsed();
                return (self.verdicts.keep(question, *verdict), phases);
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
            question.resolved = Some(digest);
            if let Some(verdict) = self.recall(question) {
                phases.gather = start.elapsed();
                return (verdict, phases);
            }
        }
        self.observer.cache("verdicts", false);
        let places = &self.places(asking, &asked, errand).await;
        let verdict = match self.find_out(&asked, platforms, digest, places, &mut phases).await {
            Ok(verdict) => self.verdicts.keep(question, verdict),
            Err(error) => Arc::new(unavailable(&asked, Some(digest), &error)),
        };
        phases.gather = start.elapsed().saturating_sub(phases.plan).saturating_sub(phases.evaluate);
        (verdict, phases)
    }

    fn recall(&self, question: Question<'_>) -> Option<Arc<ImageVerdict>> {
        let verdict = self.verdicts.get(question)?;
        self.observer.cache("verdicts", true);
        Some(verdict)
    }

    /// Facts of any age are good for a yes; a no is given on fresh ones only.
    async fn find_out(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        places: &Places<'_>,
        phases: &mut Phases,
    ) -> Result<ImageVerdict, FetchError> {
        let (verdict, oldest) =
            self.attempt(asked, platforms, digest, Freshness::Any, places, phases).await?;
        if is_settled(&verdict) || oldest.elapsed() <= DENIAL_AGE {
            return Ok(verdict);
        }
        let fresh = Freshness::Within(DENIAL_AGE);
        Ok(self.attempt(asked, platforms, digest, fresh, places, phases).await?.0)
    }

    async fn attempt(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        freshness: Freshness,
        places: &Places<'_>,
        phases: &mut Phases,
    ) -> Result<(ImageVerdict, Instant), FetchError> {
        let mut evaluated = async |known: &Known| {
            let start = Instant::now();
            let verdict = evaluated(asked, platforms, &known.facts, places.home.errand.deadline).await;
            phases.evaluate = phases.evaluate.saturating_add(start.elapsed());
            verdict
        };
        let keys = asked.keys();
        let Places { home, elsewhere } = places;
        let mut known = self.facts.of_root(home, elsewhere, digest, freshness).await?;
        self.facts.check_keys(&mut known, &keys, &home.errand).await?;
        let verdict = evaluated(&known).await?;
        let mut uncovered: Vec<Digest> = findings(&verdict).filter_map(|problem| problem.digest).collect();
        uncovered.sort_unstable();
        uncovered.dedup();
        uncovered.retain(|manifest| *manifest != digest);
        if uncovered.is_empty() {
            return Ok((verdict, known.oldest));
        }
        self.facts.add_manifests(&mut known, home, elsewhere, uncovered, freshness).await;
        self.facts.check_keys(&mut known, &keys, &home.errand).await?;
        Ok((evaluated(&known).await?, known.oldest))
    }
}

/// The evaluation; with conditions, which may take their time, on a thread that answers no other review.
async fn evaluated(
    asked: &ImagePlan,
    platforms: &Platforms,
    facts: &ImageFacts,
    deadline: Instant,
) -> Result<ImageVerdict, FetchError> {
    if !asked.has_conditions() {
        return Ok(evaluate(asked, platforms, facts, Timestamp::now()));
    }
    let (asked, platforms, facts) = (asked.clone(), platforms.clone(), facts.clone());
    let work = tokio::task::spawn_blocking(move || evaluate(&asked, &platforms, &facts, Timestamp::now()));
    let error = |kind, detail: &str| FetchError { kind, detail: detail.to_owned() };
    let late = |_| {
        error(
            FetchErrorKind::Deadline,
            "could not find out in time: the policies' conditions are still evaluated",
        )
    };
    let ended = |_| {
        error(
            FetchErrorKind::Unavailable,
            "an internal error ended the evaluation of the policies' conditions",
        )
    };
    timeout_at(deadline, work).await.map_err(late)?.map_err(ended)
}

/// One definite no is enough; only where every no may heal is it worth asking again.
fn worst(images: &[ReviewedImage]) -> Outcome {
    let outcomes = || images.iter().map(|image| image.verdict.outcome);
    if outcomes().any(|outcome| outcome == Outcome::Deny) {
        return Outcome::Deny;
    }
    outcomes().max().unwrap_or(Outcome::Allow)
}
