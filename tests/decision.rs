//! The decision, from plan to message: pure, so no registry and no signature is needed. Every reason's message is a snapshot,
//! and every denial has a twin that is admitted and differs in one thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bonafide::domain::{
    condition::{Condition, ReviewBudget},
    digest::Digest,
    evaluate::{evaluate, evaluate_while, unavailable},
    evidence::{
        Attestation, CertificateReading, FetchError, FetchErrorKind, Finding, ImageFacts, KnownRoots, Layout,
        Root, SubjectEvidence, Verified,
    },
    glob::Glob,
    identity::{
        AroundTag, Certificate, GithubIdentity, RefPattern, Signer, SignerIdentity, SigningWorkflow,
        SubjectMatcher, TrustRootName,
    },
    level::BuildLevel,
    message,
    plan::{ImagePlan, Plan, Stage, plan},
    platform::{EntryKind, IndexEntry, Platform},
    policy::{
        ImageSelector, InvalidPolicy, LabelRequirement, LabelSelector, LabelTest, Labels, Mode, Policy,
        PolicyEntry, PolicyId, PolicySet, ProvenanceRules, Scope, SubjectRule, TagRule, UncoveredRule,
        Unmatched,
    },
    provenance::{Provenance, SLSA_V1, Statement},
    summary::{Summary, SummaryRules},
    verdict::{ImageVerdict, Outcome, Reason},
    workload::{ImageRole, Placement, Platforms, PullWith, Workload, WorkloadImage},
};
use bonafide::gather::review::Review;
use jiff::Timestamp;

const REPOSITORY: &str = "ghcr.io/infobloxopen/ib-schema-registry";
const SOURCE: &str = "https://github.com/infobloxopen/ib-schema-registry";
const WORKFLOW: &str = ".github/workflows/build-image.yml";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    time("2026-11-23T12:00:00Z")
}

fn certificate() -> Certificate {
    Certificate {
        subject: format!("{SOURCE}/{WORKFLOW}@refs/tags/v1.2.0"),
        issuer: ISSUER.into(),
        runner: Some("github-hosted".into()),
        source_repository: Some(SOURCE.into()),
        source_repository_id: Some("486325809".into()),
        source_ref: Some("refs/tags/v1.2.0".into()),
        source_digest: Some("ae48f2b".into()),
        trigger: Some("push".into()),
        not_before: time("2026-11-20T08:00:00Z"),
        not_after: time("2026-11-20T08:10:00Z"),
        ..Certificate::default()
    }
}

fn verified(subjects: &[Digest]) -> Verified {
    let provenance = Provenance {
        builder_id: "https://github.com/actions/runner/github-hosted".into(),
        build_type: "https://actions.github.io/buildtypes/workflow/v1".into(),
        source: Some(SOURCE.into()),
        ..Provenance::default()
    };
    Verified {
        readings: vec![CertificateReading {
            trust_root: TrustRootName::default(),
            certificate: certificate(),
        }],
        statement: Statement {
            subjects: subjects.to_vec(),
            predicate_type: SLSA_V1.into(),
            provenance: Some(provenance),
            summary: None,
            other: None,
        },
    }
}

fn github() -> GithubIdentity {
    GithubIdentity {
        subject: None,
        issuer: ISSUER.into(),
        repository: Glob::new("infobloxopen/ib-schema-registry").unwrap().into(),
        repository_id: None,
        owner_id: None,
        workflow: Some(SigningWorkflow { repository: None, path: WORKFLOW.into() }),
        workflow_refs: Vec::new(),
        refs: vec![RefPattern::Tagged(AroundTag { prefix: "refs/tags/".into(), suffix: String::new() })],
        triggers: vec!["push".into()],
        runner: None,
        environments: Vec::new(),
    }
}

fn policy_of(identity: SignerIdentity) -> Policy {
    Policy {
        id: PolicyId { namespace: Some("payments".into()), name: "schema-registry".into() },
        namespaces: LabelSelector::default(),
        mode: Mode::Enforce,
        images: ImageSelector {
            include: vec![Glob::new("ghcr.io/infobloxopen/**").unwrap()],
            exclude: Vec::new(),
        },
        subject: SubjectRule::Any,
        uncovered: UncoveredRule::Deny,
        tags: TagRule::Allow,
        signers: vec![Signer {
            name: "release".into(),
            identity,
            trust_root: TrustRootName::default(),
            builder_ids: Vec::new(),
            level: BuildLevel::default(),
        }],
        provenance: ProvenanceRules::default(),
        attestation_repositories: Vec::new(),
        summaries: None,
        in_place_of_provenance: None,
    }
}

fn condition(expression: &str) -> Condition {
    Condition::new(expression, Some("built on our own machines".to_owned())).unwrap()
}

fn policy() -> Policy {
    policy_of(SignerIdentity::Github(Box::new(github())))
}

fn with_github(change: impl FnOnce(&mut GithubIdentity)) -> Policy {
    let mut identity = github();
    change(&mut identity);
    policy_of(SignerIdentity::Github(Box::new(identity)))
}

fn plan_for(entries: Vec<PolicyEntry>, image: &str) -> ImagePlan {
    plan_at(Stage::Final, entries, image)
}

fn plan_at(stage: Stage, entries: Vec<PolicyEntry>, image: &str) -> ImagePlan {
    let set = PolicySet::new(entries, 1);
    match plan(
        &set,
        Scope::Namespace { name: "payments", labels: Labels::All(&BTreeMap::new()) },
        Unmatched::Allow,
        stage,
        image,
    ) {
        Plan::Ask(asked) => asked,
        Plan::Settled(verdict) => panic!("nothing to ask: {verdict:?}"),
    }
}

/// An index of amd64 and arm64, and what was found at which digest.
struct World {
    policy: Policy,
    image: String,
    found: Vec<(Digest, Finding)>,
    gaps: Vec<FetchErrorKind>,
    /// Empty: unknown.
    platforms: Vec<&'static str>,
    stage: Stage,
    /// The platform that the one manifest of the index is listed with, in place of both manifests; empty: it is listed with none.
    of_index: Option<&'static str>,
}

impl World {
    /// Everything is right: the index is attested by whom the policy names.
    fn right() -> Self {
        Self {
            policy: policy(),
            image: format!("{REPOSITORY}:v1.2.0"),
            found: vec![(digest("index"), Finding::Verified(Box::new(verified(&[digest("index")]))))],
            gaps: Vec::new(),
            platforms: vec!["linux/amd64", "linux/arm64"],
            stage: Stage::Final,
            of_index: None,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::right();
        change(&mut world);
        world
    }

    fn signed(change: impl FnOnce(&mut Verified)) -> Self {
        let mut signed = verified(&[digest("index")]);
        change(&mut signed);
        Self::with(|world| world.found = vec![(digest("index"), Finding::Verified(Box::new(signed)))])
    }

    fn judge(&self) -> ImageVerdict {
        self.judge_within(&ReviewBudget::default())
    }

    fn judge_within(&self, conditions: &ReviewBudget) -> ImageVerdict {
        let entry = |name: &str, text: &str| IndexEntry {
            digest: digest(name),
            platform: Some(platform(text)),
            conditional: false,
            kind: EntryKind::Image,
        };
        let root = Root::Index(match self.of_index {
            None => vec![entry("amd64", "linux/amd64"), entry("arm64", "linux/arm64")],
            Some(listed) => {
                vec![IndexEntry {
                    platform: (!listed.is_empty()).then(|| platform(listed)),
                    ..entry("amd64", "linux/amd64")
                }]
            }
        });
        let mut evidence: HashMap<Digest, SubjectEvidence> = HashMap::new();
        for (at, finding) in &self.found {
            let attestation =
                Attestation { layout: Layout::AttTag, found_at: digest("att"), finding: finding.clone() };
            evidence.entry(*at).or_default().attestations.push(Arc::new(attestation));
        }
        for kind in &self.gaps {
            let detail = "ghcr.io did not answer as asked".into();
            evidence.entry(digest("index")).or_default().gaps.push(FetchError { kind: *kind, detail });
        }
        let evidence = evidence.into_iter().map(|(at, found)| (at, Arc::new(found))).collect();
        let facts = ImageFacts {
            digest: digest("index"),
            root: Arc::new(root),
            evidence,
            elsewhere: HashMap::new(),
            key_checks: HashMap::new(),
            trust_roots: None,
        };
        let asked = plan_at(self.stage, vec![PolicyEntry::Valid(Arc::new(self.policy.clone()))], &self.image);
        let platforms = match self.platforms.as_slice() {
            [] => Platforms::Unknown,
            these => Platforms::These(these.iter().map(|text| platform(text)).collect()),
        };
        evaluate_while(&asked, &platforms, &facts, now(), conditions, &|| true).unwrap()
    }

    fn reasons(&self) -> Vec<Reason> {
        self.judge().problems.iter().map(|problem| problem.reason).collect()
    }
}

fn container() -> WorkloadImage {
    WorkloadImage {
        name: "api".into(),
        role: ImageRole::Container,
        field: "spec.containers[0].image".into(),
        image: String::new(),
    }
}

#[test]
fn what_is_right_is_admitted_with_its_proof() {
    let verdict = World::right().judge();
    assert_eq!(verdict.outcome, Outcome::Allow);
    assert!(verdict.platforms.iter().all(|platform| platform.covered));
    assert_eq!((verdict.proofs.len(), verdict.proofs[0].signer.as_str()), (1, "release"));
}

#[test]
fn each_single_difference_denies_with_its_reason() {
    use Reason::{
        ConditionFailed, NoProvenance, PlatformMissing, ProvenanceTooOld, UnpinnedTag, WrongBuilder,
        WrongSigner, WrongSource,
    };
    let certificate =
        |change: fn(&mut Certificate)| World::signed(|signed| change(&mut signed.readings[0].certificate));
    let asked = |change: fn(&mut GithubIdentity)| World::with(|world| world.policy = with_github(change));
    let rules = |change: fn(&mut ProvenanceRules)| World::with(|world| change(&mut world.policy.provenance));
    let cases: Vec<(&str, World, Reason)> = vec![
        ("issuer", certificate(|c| c.issuer = "https://accounts.google.com".into()), WrongSigner),
        (
            "subject of another repository",
            certificate(|c| c.subject = c.subject.replace("infobloxopen", "evil")),
            WrongSigner,
        ),
        (
            "subject that only begins right",
            certificate(|c| c.subject = c.subject.replace("github.com/", "github.com.evil/")),
            WrongSigner,
        ),
        (
            "another workflow",
            certificate(|c| c.subject = c.subject.replace("build-image", "other")),
            WrongSigner,
        ),
        (
            "workflow with more behind it",
            certificate(|c| c.subject = c.subject.replace(".yml@", ".yml/x@")),
            WrongSigner,
        ),
        ("no source", certificate(|c| c.source_repository = None), WrongSource),
        (
            "another source",
            certificate(|c| c.source_repository = Some("https://github.com/evil/ib-schema-registry".into())),
            WrongSource,
        ),
        (
            "a source on another host",
            certificate(|c| c.source_repository = Some(SOURCE.replace("github", "gitlab"))),
            WrongSource,
        ),
        ("a pull request", certificate(|c| c.source_ref = Some("refs/pull/7/merge".into())), WrongSource),
        ("another tag", certificate(|c| c.source_ref = Some("refs/tags/v1.2.1".into())), WrongSource),
        (
            "a tag that only begins right",
            certificate(|c| c.source_ref = Some("refs/tags/v1.2.0-rc".into())),
            WrongSource,
        ),
        ("no ref", certificate(|c| c.source_ref = None), WrongSource),
        ("another trigger", certificate(|c| c.trigger = Some("pull_request_target".into())), WrongSource),
        ("no trigger", certificate(|c| c.trigger = None), WrongSource),
        ("repository id", asked(|g| g.repository_id = Some("1".into())), WrongSource),
        ("owner id", asked(|g| g.owner_id = Some("1".into())), WrongSource),
        ("runner", asked(|g| g.runner = Some("self-hosted".into())), WrongSource),
        (
            "workflow ref",
            asked(|g| g.workflow_refs = vec![RefPattern::Fixed(Glob::new("refs/heads/main").unwrap())]),
            WrongSigner,
        ),
        (
            "workflow repository",
            asked(|g| g.workflow.as_mut().unwrap().repository = Some("other/builder".into())),
            WrongSigner,
        ),
        (
            "trust root",
            World::signed(|signed| signed.readings[0].trust_root = TrustRootName::github()),
            WrongSigner,
        ),
        (
            "another subject",
            World::signed(|signed| signed.statement.subjects = vec![digest("other")]),
            NoProvenance,
        ),
        ("no subject", World::signed(|signed| signed.statement.subjects = Vec::new()), NoProvenance),
        ("no provenance", World::signed(|signed| signed.statement.provenance = None), NoProvenance),
        ("type", rules(|r| r.types = vec!["https://slsa.dev/provenance/v0.2".into()]), NoProvenance),
        ("builder", rules(|r| r.builder_ids = vec![Glob::new("https://other").unwrap()]), WrongBuilder),
        ("build type", rules(|r| r.build_types = vec![Glob::new("https://other").unwrap()]), WrongBuilder),
        (
            "claimed source",
            rules(|r| r.source_repository = Some("https://github.com/other/x".into())),
            WrongSource,
        ),
        ("claimed ref", rules(|r| r.source_refs = vec![Glob::new("refs/heads/main").unwrap()]), WrongSource),
        ("age", rules(|r| r.max_age = Some(Duration::from_hours(24))), ProvenanceTooOld),
        ("condition", rules(|r| r.conditions = vec![condition("image.tag == 'v1.2.1'")]), ConditionFailed),
        ("absent", rules(|r| r.conditions = vec![condition("provenance.commit != ''")]), ConditionFailed),
        ("platform rule", World::with(|world| world.policy.subject = SubjectRule::Platform), NoProvenance),
        ("tag rule", World::with(|world| world.policy.tags = TagRule::Deny), UnpinnedTag),
        ("platforms", World::with(|world| world.platforms = vec!["linux/s390x"]), PlatformMissing),
        ("nothing found", World::with(|world| world.found.clear()), NoProvenance),
    ];
    for (what, world, reason) in cases {
        let verdict = world.judge();
        assert_eq!(verdict.outcome, Outcome::Deny, "{what}");
        let reasons: BTreeSet<Reason> = world.reasons().into_iter().collect();
        assert_eq!(reasons, BTreeSet::from([reason]), "{what}");
    }
}

#[test]
fn conditions_that_hold_admit_and_are_asked_for_each_platform_they_ask_for() {
    let under = |expressions: &[&str]| {
        let conditions = expressions.iter().map(|expression| condition(expression)).collect();
        World::with(|world| world.policy.provenance.conditions = conditions)
    };
    let held = ["image.tag == 'v1.2.0'", "certificate.trigger == 'push' && !has(provenance.commit)"];
    assert_eq!(under(&held).judge().outcome, Outcome::Allow);
    assert_eq!(under(&["image.platform.startsWith('linux/')"]).judge().outcome, Outcome::Allow);
    // Of two platforms one.
    assert_eq!(under(&["image.platform == 'linux/amd64'"]).reasons(), [Reason::ConditionFailed]);
    let one_fails = [held[0], "certificate.trigger == 'release'"];
    assert_eq!(under(&one_fails).reasons(), [Reason::ConditionFailed, Reason::ConditionFailed]);
}

fn with_summary(change: impl FnOnce(&mut Summary, &mut Verified)) -> World {
    let mut signed = verified(&[digest("index")]);
    let mut summary = Summary {
        verifier_id: "https://verifier.example".into(),
        result: "PASSED".into(),
        levels: vec!["SLSA_BUILD_LEVEL_2".into()],
        resource_uri: format!("{REPOSITORY}:v1.2.0"),
        ..Summary::default()
    };
    change(&mut summary, &mut signed);
    signed.statement.provenance = None;
    signed.statement.summary = Some(summary);
    World::with(|world| {
        world.found = vec![(digest("index"), Finding::Verified(Box::new(signed)))];
        world.policy.summaries = Some(SummaryRules {
            signers: world.policy.signers.clone(),
            verifier_ids: vec!["https://verifier.example".into()],
            min_level: BuildLevel::Two,
            policy_uris: Vec::new(),
        });
    })
}

#[test]
fn a_verification_summary_suffices_where_the_policy_says_so() {
    let right = with_summary(|_, _| {});
    assert_eq!(right.judge().outcome, Outcome::Allow);
    let proofs = right.judge().proofs;
    assert_eq!(proofs[0].summary.as_ref().unwrap().verifier_id, "https://verifier.example");
    // Provenance is asked as ever, and suffices beside a summary that does not.
    let mut both = with_summary(|summary, _| summary.result = "FAILED".into());
    both.found.push((digest("index"), Finding::Verified(Box::new(verified(&[digest("index")])))));
    assert_eq!(both.judge().outcome, Outcome::Allow);
    let not_asked = with_summary(|_, _| {});
    let not_asked = World { policy: policy(), ..not_asked };
    assert_eq!(not_asked.reasons(), [Reason::NoProvenance, Reason::NoProvenance]);
    let by_another =
        with_summary(|_, signed| signed.readings[0].certificate.issuer = "https://other.example".into());
    assert_eq!(by_another.reasons(), [Reason::WrongSigner, Reason::WrongSigner]);
    let of_another = with_summary(|_, signed| signed.statement.subjects = vec![digest("other")]);
    assert_eq!(of_another.reasons(), [Reason::NoProvenance, Reason::NoProvenance]);
    let elsewhere = with_summary(|summary, _| summary.resource_uri = "ghcr.io/other/image".into());
    assert_eq!(elsewhere.reasons(), [Reason::WrongSummary, Reason::WrongSummary]);
}

/// Whoever may sign provenance may not for that reason sign summaries of it, nor the other way about.
#[test]
fn a12_the_policy_says_who_may_sign_summaries() {
    let with = |of_provenance: bool, of_summaries: bool| {
        World::with(|world| {
            *world = with_summary(|_, _| {});
            let signers = std::mem::take(&mut world.policy.signers);
            let other = || {
                let mut others = signers.clone();
                for signer in &mut others {
                    signer.trust_root = TrustRootName::github();
                }
                others
            };
            world.policy.signers = if of_provenance { signers.clone() } else { other() };
            let rules = world.policy.summaries.as_mut().unwrap();
            rules.signers = if of_summaries { signers.clone() } else { other() };
        })
    };
    assert_eq!(with(true, true).judge().outcome, Outcome::Allow);
    assert_eq!(with(false, true).judge().outcome, Outcome::Allow);
    assert_eq!(with(true, false).reasons(), [Reason::WrongSigner, Reason::WrongSigner]);
    // Alone, and nobody.
    let mut alone = with(true, true);
    alone.policy.signers.clear();
    assert_eq!(alone.judge().outcome, Outcome::Allow);
    let mut nobody = with(true, true);
    nobody.policy.summaries.as_mut().unwrap().signers.clear();
    let verdict = nobody.judge();
    assert_eq!(nobody.reasons(), [Reason::NoProvenance, Reason::NoProvenance]);
    assert!(
        verdict.problems[0].found.contains("names nobody in vsa.signers"),
        "{}",
        verdict.problems[0].found
    );
    // Provenance is believed as ever; of a signer of summaries it is not.
    let provenance = (digest("index"), Finding::Verified(Box::new(verified(&[digest("index")]))));
    nobody.found = vec![provenance.clone()];
    assert_eq!(nobody.judge().outcome, Outcome::Allow);
    let mut by_verifier = with(false, true);
    by_verifier.found = vec![provenance];
    assert_eq!(by_verifier.reasons(), [Reason::WrongSigner, Reason::WrongSigner]);
}

#[test]
fn a_tag_is_never_a_pattern_and_no_tag_matches_no_template() {
    let pinned = World::with(|world| world.image = format!("{REPOSITORY}@{}", digest("index")));
    assert_eq!(pinned.reasons(), [Reason::WrongSource, Reason::WrongSource]);
    let both = World::with(|world| world.image = format!("{REPOSITORY}:v1.2.0@{}", digest("index")));
    assert_eq!(both.judge().outcome, Outcome::Allow);
    let other_tag = World::with(|world| world.image = format!("{REPOSITORY}:v1.2"));
    assert_eq!(other_tag.judge().outcome, Outcome::Deny);
}

#[test]
fn without_refs_every_branch_and_tag_fits_and_no_pull_request() {
    for (git_ref, outcome) in [
        ("refs/heads/anything", Outcome::Allow),
        ("refs/tags/v9", Outcome::Allow),
        ("refs/pull/7/merge", Outcome::Deny),
        ("refs/pull/7/head", Outcome::Deny),
        ("", Outcome::Deny),
    ] {
        let mut world =
            World::signed(|signed| signed.readings[0].certificate.source_ref = Some(git_ref.into()));
        world.policy = with_github(|github| github.refs.clear());
        assert_eq!(world.judge().outcome, outcome, "{git_ref}");
    }
}

#[test]
fn any_workflow_of_the_source_signs_where_none_is_named_and_no_other_repositorys() {
    let any = |change: fn(&mut Certificate)| {
        let mut world = World::signed(|signed| change(&mut signed.readings[0].certificate));
        world.policy = with_github(|github| {
            github.workflow = None;
            github.repository = Glob::new("infobloxopen/*").unwrap().into();
        });
        world.judge().outcome
    };
    assert_eq!(any(|_| ()), Outcome::Allow);
    assert_eq!(any(|c| c.subject = c.subject.replace("build-image", "other")), Outcome::Allow);
    assert_eq!(any(|c| c.subject = c.subject.replace("ib-schema-registry", "sibling")), Outcome::Deny);
    assert_eq!(any(|c| c.subject = c.subject.replace(".github/workflows", "docs")), Outcome::Deny);
    assert_eq!(any(|c| c.subject = c.subject.replace("infobloxopen", "evil")), Outcome::Deny);
}

#[test]
fn a_reusable_workflow_signs_for_the_source_that_called_it() {
    let reusable = |source: &str, at: &str| {
        let mut world = World::signed(|signed| {
            signed.readings[0].certificate.subject =
                format!("https://github.com/org/builder/.github/workflows/b.yml@{at}");
            signed.readings[0].certificate.source_repository = Some(format!("https://github.com/{source}"));
        });
        world.policy = with_github(|github| {
            github.workflow = Some(SigningWorkflow {
                repository: Some("org/builder".into()),
                path: ".github/workflows/b.yml".into(),
            });
            github.workflow_refs = vec![RefPattern::Fixed(Glob::new("refs/tags/v*").unwrap())];
        });
        world.reasons()
    };
    assert_eq!(reusable("infobloxopen/ib-schema-registry", "refs/tags/v2"), []);
    assert_eq!(reusable("evil/ib-schema-registry", "refs/tags/v2"), [Reason::WrongSource; 2]);
    assert_eq!(reusable("infobloxopen/ib-schema-registry", "refs/heads/x"), [Reason::WrongSigner; 2]);
}

#[test]
fn a_certificate_signer_is_matched_whole() {
    let signer = |subject| {
        let identity = SignerIdentity::Certificate { issuer: ISSUER.into(), subject, triggers: Vec::new() };
        World::with(|world| world.policy = policy_of(identity)).judge().outcome
    };
    let exact = certificate().subject;
    assert_eq!(signer(SubjectMatcher::Exact(exact.clone())), Outcome::Allow);
    assert_eq!(signer(SubjectMatcher::Exact(exact.replace("v1.2.0", "v1.2"))), Outcome::Deny);
    let regex = |text: &str| SubjectMatcher::Regex(bonafide::domain::glob::AnchoredRegex::new(text).unwrap());
    assert_eq!(signer(regex("https://github[.]com/infobloxopen/.*")), Outcome::Allow);
    assert_eq!(signer(regex("https://github[.]com/infobloxopen/")), Outcome::Deny);
}

#[test]
fn one_good_attestation_suffices_whatever_lies_beside_it() {
    let good = || (digest("index"), Finding::Verified(Box::new(verified(&[digest("index")]))));
    let other = || {
        let mut other = verified(&[digest("index")]);
        other.readings[0].certificate.source_repository = Some("https://github.com/evil/x".into());
        (digest("index"), Finding::Verified(Box::new(other)))
    };
    for bad in [
        other(),
        (digest("index"), Finding::Untrusted("no".into())),
        (digest("index"), Finding::Malformed("no".into())),
    ] {
        for found in [vec![good(), bad.clone()], vec![bad.clone(), good()]] {
            assert_eq!(World::with(|world| world.found = found).judge().outcome, Outcome::Allow);
        }
        assert_eq!(World::with(|world| world.found = vec![bad]).judge().outcome, Outcome::Deny);
    }
    let gap = World::with(|world| world.gaps = vec![FetchErrorKind::Unavailable]);
    assert_eq!(gap.judge().outcome, Outcome::Allow);
}

#[test]
fn one_attestation_cannot_be_pieced_together_from_two() {
    let mut wrong_source = verified(&[digest("index")]);
    wrong_source.readings[0].certificate.source_ref = Some("refs/heads/main".into());
    let wrong_subject = verified(&[digest("other")]);
    let found = [wrong_source, wrong_subject].map(|v| (digest("index"), Finding::Verified(Box::new(v))));
    assert_eq!(World::with(|world| world.found = found.into()).judge().outcome, Outcome::Deny);
}

#[test]
fn leaves_cover_themselves_and_one_uncovered_leaf_denies() {
    let leaf = |name: &str| (digest(name), Finding::Verified(Box::new(verified(&[digest(name)]))));
    for subject in [SubjectRule::Any, SubjectRule::Platform] {
        let judge = |found: Vec<_>, platforms: Vec<&'static str>| {
            let world = World::with(|world| {
                world.found = found;
                world.platforms = platforms;
                world.policy.subject = subject;
            });
            (world.judge(), world.reasons())
        };
        let both = vec!["linux/amd64", "linux/arm64"];
        assert_eq!(judge(vec![leaf("amd64"), leaf("arm64")], both.clone()).0.outcome, Outcome::Allow);
        assert_eq!(judge(vec![leaf("amd64")], vec!["linux/amd64"]).0.outcome, Outcome::Allow);
        let (verdict, reasons) = judge(vec![leaf("amd64")], both);
        assert_eq!(reasons, [Reason::PlatformNotCovered]);
        assert_eq!(verdict.problems[0].platform, Some(platform("linux/arm64")));
        assert_eq!(verdict.problems[0].digest, Some(digest("arm64")));
        assert_eq!(verdict.platforms.iter().map(|p| p.covered).collect::<Vec<_>>(), [true, false]);
    }
    // The sibling's attestation, moved to this manifest, still names the sibling.
    let moved = World::with(|world| world.found = vec![leaf("amd64"), (digest("arm64"), leaf("amd64").1)]);
    assert_eq!(moved.judge().outcome, Outcome::Deny);
}

#[test]
fn a_missing_platform_warns_while_another_is_there() {
    let verdict = World::with(|world| world.platforms = vec!["linux/amd64", "linux/s390x"]).judge();
    assert_eq!(verdict.outcome, Outcome::Allow);
    assert_eq!(verdict.warnings.len(), 1);
    insta::assert_snapshot!(message::warning(Some(&container()), &verdict, &verdict.warnings[0]));
}

#[test]
fn what_could_not_be_asked_is_no_definite_no() {
    for (kind, reason) in [
        (FetchErrorKind::Denied, Reason::RegistryDenied),
        (FetchErrorKind::Throttled(Some(Duration::from_secs(7))), Reason::RegistryThrottled),
        (FetchErrorKind::Unavailable, Reason::RegistryUnavailable),
        (FetchErrorKind::Deadline, Reason::DeadlineExceeded),
    ] {
        let gap = World::with(|world| {
            world.found.clear();
            world.gaps = vec![kind];
        });
        assert_eq!((gap.judge().outcome, gap.reasons()), (Outcome::Unverifiable, vec![reason; 2]));
        let error = FetchError { kind, detail: "ghcr.io did not answer".into() };
        let asked = plan_for(vec![PolicyEntry::Valid(Arc::new(policy()))], REPOSITORY);
        let verdict = unavailable(&asked, None, &error);
        assert_eq!((verdict.outcome, verdict.problems[0].reason), (Outcome::Unverifiable, reason));
    }
}

#[test]
fn modes_soften_and_policies_add_up() {
    let bad = |mode| {
        World::with(|world| {
            world.found.clear();
            world.policy.mode = mode;
        })
        .judge()
    };
    assert_eq!(bad(Mode::Enforce).outcome, Outcome::Deny);
    let warned = bad(Mode::Warn);
    assert_eq!((warned.outcome, warned.warnings.len()), (Outcome::Allow, 2));
    let audited = bad(Mode::Audit);
    assert_eq!((audited.outcome, audited.warnings.len(), audited.audit.len()), (Outcome::Allow, 0, 2));

    // A lenient policy in the namespace takes nothing from the cluster's.
    let mut cluster = with_github(|github| github.repository = Glob::new("org/other").unwrap().into());
    cluster.id = PolicyId { namespace: None, name: "all".into() };
    let entries = vec![PolicyEntry::Valid(Arc::new(policy())), PolicyEntry::Valid(Arc::new(cluster))];
    let asked = plan_for(entries, &format!("{REPOSITORY}:v1.2.0"));
    let evidence = SubjectEvidence {
        attestations: vec![Arc::new(Attestation {
            layout: Layout::AttTag,
            found_at: digest("att"),
            finding: Finding::Verified(Box::new(verified(&[digest("index")]))),
        })],
        gaps: Vec::new(),
    };
    let facts = ImageFacts {
        digest: digest("index"),
        root: Arc::new(Root::Manifest(None)),
        evidence: HashMap::from([(digest("index"), Arc::new(evidence))]),
        elsewhere: HashMap::new(),
        key_checks: HashMap::new(),
        trust_roots: None,
    };
    let verdict = evaluate(&asked, &Platforms::Unknown, &facts, now());
    assert_eq!(verdict.outcome, Outcome::Deny);
    assert_eq!(verdict.problems.len(), 1);
}

/// Whoever is denied because of a root learns that, and not to sign again.
#[test]
fn a_root_that_is_not_in_force_is_told_where_a_signer_names_it() {
    let mut policy = policy();
    policy.signers[0].trust_root = TrustRootName("corp".into());
    let asked = plan_for(vec![PolicyEntry::Valid(Arc::new(policy))], &format!("{REPOSITORY}:v1.2.0"));
    let evidence = SubjectEvidence {
        attestations: vec![Arc::new(Attestation {
            layout: Layout::AttTag,
            found_at: digest("att"),
            finding: Finding::Untrusted("its certificate does not chain to the trust root sigstore".into()),
        })],
        gaps: Vec::new(),
    };
    let hint = |known: Option<KnownRoots>| {
        let facts = ImageFacts {
            elsewhere: HashMap::new(),
            digest: digest("index"),
            root: Arc::new(Root::Manifest(None)),
            evidence: HashMap::from([(digest("index"), Arc::new(evidence.clone()))]),
            key_checks: HashMap::new(),
            trust_roots: known.map(Arc::new),
        };
        let verdict = evaluate(&asked, &Platforms::Unknown, &facts, now());
        assert_eq!(
            (verdict.outcome, verdict.problems[0].reason),
            (Outcome::Deny, Reason::UntrustedSignature)
        );
        verdict.problems[0].hint.clone().unwrap_or_default()
    };
    let (corp, nobody) = (TrustRootName("corp".into()), KnownRoots::default);
    assert_eq!(hint(Some(nobody())), "nothing satisfies the signer release: there is no trust root corp");
    let failed = KnownRoots { failed: [(corp.clone(), "spec.tuf: away".into())].into(), ..nobody() };
    let told = "nothing satisfies the signer release: the trust root corp is not in force: spec.tuf: away";
    assert_eq!(hint(Some(failed)), told);
    let usual = hint(None);
    assert!(!usual.contains("corp"), "{usual}");
    assert_eq!(hint(Some(KnownRoots { in_force: [corp].into(), ..nobody() })), usual);
}

#[test]
fn an_invalid_policy_fails_closed_for_what_it_names() {
    let invalid = |images: Option<&str>| {
        PolicyEntry::Invalid(Arc::new(InvalidPolicy {
            id: PolicyId { namespace: Some("payments".into()), name: "broken".into() },
            namespaces: None,
            images: images
                .map(|glob| ImageSelector { include: vec![Glob::new(glob).unwrap()], exclude: Vec::new() }),
            mode: Mode::Enforce,
            errors: vec!["spec.signers[0].github.refs[0]: \"main\" is no ref: write refs/heads/main".into()],
        }))
    };
    let entries = vec![PolicyEntry::Valid(Arc::new(policy())), invalid(Some("ghcr.io/infobloxopen/**"))];
    let asked = plan_for(entries, &format!("{REPOSITORY}:v1.2.0"));
    let verdict =
        unavailable(&asked, None, &FetchError { kind: FetchErrorKind::Unavailable, detail: String::new() });
    assert_eq!(verdict.outcome, Outcome::Deny);
    let set = PolicySet::new(vec![invalid(Some("quay.io/**"))], 1);
    let labels = BTreeMap::new();
    let scope = Scope::Namespace { name: "payments", labels: Labels::All(&labels) };
    assert!(
        matches!(plan(&set, scope, Unmatched::Allow, Stage::Final, REPOSITORY), Plan::Settled(v) if v.outcome == Outcome::Allow)
    );
    let all = PolicySet::new(vec![invalid(None)], 1);
    assert!(
        matches!(plan(&all, scope, Unmatched::Allow, Stage::Final, REPOSITORY), Plan::Settled(v) if v.outcome == Outcome::Deny)
    );
    let elsewhere = Scope::Namespace { name: "other", labels: Labels::All(&labels) };
    assert!(matches!(plan(&all, elsewhere, Unmatched::Allow, Stage::Final, REPOSITORY), Plan::Settled(_)));
}

#[test]
fn e4_an_invalid_policy_in_mode_audit_or_warn_denies_nothing() {
    let verdict = |mode| {
        let invalid = InvalidPolicy {
            id: PolicyId { namespace: Some("payments".into()), name: "broken".into() },
            namespaces: None,
            images: None,
            mode,
            errors: vec!["spec.signers: is empty".into()],
        };
        let set = PolicySet::new(vec![PolicyEntry::Invalid(Arc::new(invalid))], 1);
        let labels = BTreeMap::new();
        let scope = Scope::Namespace { name: "payments", labels: Labels::All(&labels) };
        match plan(&set, scope, Unmatched::Allow, Stage::Final, REPOSITORY) {
            Plan::Settled(verdict) => *verdict,
            Plan::Ask(_) => panic!("nothing to ask"),
        }
    };
    for (mode, outcome, found) in [
        (Mode::Enforce, Outcome::Deny, [1, 0, 0]),
        (Mode::Warn, Outcome::Allow, [0, 1, 0]),
        (Mode::Audit, Outcome::Allow, [0, 0, 1]),
    ] {
        let verdict = verdict(mode);
        assert_eq!(verdict.outcome, outcome, "{mode:?}");
        assert_eq!([verdict.problems.len(), verdict.warnings.len(), verdict.audit.len()], found, "{mode:?}");
    }
}

/// So many policies of a namespace, or of the cluster, that name the image.
fn many(count: usize, namespace: Option<&str>, mode: Mode) -> Vec<PolicyEntry> {
    let named = |at: usize| {
        let id = PolicyId { namespace: namespace.map(ToOwned::to_owned), name: format!("p-{at:03}") };
        PolicyEntry::Valid(Arc::new(Policy { id, mode, ..policy() }))
    };
    (0..count).map(named).collect()
}

#[test]
fn b6_policies_beyond_the_limit_of_an_image_are_told_and_fail_closed() {
    let image = format!("{REPOSITORY}:v1.2.0");
    let beyond = |entries: Vec<PolicyEntry>| {
        let asked = plan_for(entries, &image);
        (asked.policies.len(), asked.known_problems())
    };
    assert_eq!(beyond(many(64, Some("payments"), Mode::Enforce)), (64, vec![]));
    // Neither the cluster nor the namespace takes the other's away.
    let both = [many(64, None, Mode::Enforce), many(64, Some("payments"), Mode::Enforce)].concat();
    assert_eq!(beyond(both), (128, vec![]));
    let (evaluated, problems) = beyond(many(66, Some("payments"), Mode::Enforce));
    assert_eq!((evaluated, problems.len()), (64, 1));
    assert_eq!((problems[0].reason, problems[0].mode), (Reason::InvalidPolicy, Mode::Enforce));
    insta::assert_snapshot!(format!("{}\n{}", problems[0].found, problems[0].hint.clone().unwrap()));
    let (_, problems) = beyond(many(66, Some("payments"), Mode::Audit));
    assert_eq!(problems[0].mode, Mode::Audit);
}

#[test]
fn b6_conditions_of_one_review_have_one_budget() {
    let spending = "provenance.parameters.all(a, provenance.parameters.all(b, a != b || a == b))";
    let mut signed = verified(&[digest("index")]);
    let parameters: Vec<usize> = (0..150).collect();
    let predicate = serde_json::json!({"buildDefinition": {"externalParameters": parameters}});
    signed.statement.provenance.as_mut().unwrap().predicate = predicate.into();
    let world = World::with(|world| {
        world.found = vec![(digest("index"), Finding::Verified(Box::new(signed)))];
        world.policy.provenance.conditions = vec![condition(spending)];
    });
    assert_eq!(world.judge().outcome, Outcome::Allow);
    let budget = ReviewBudget::default();
    let within = || world.judge_within(&budget).outcome;
    let admitted = (0..100).take_while(|_| within() == Outcome::Allow).count();
    assert!((1..50).contains(&admitted) && budget.is_spent(), "{admitted}");
    // A review that is over starts none.
    let over = ReviewBudget::default();
    over.end();
    assert_eq!(world.judge_within(&over).outcome, Outcome::Deny);
}

/// Runtimes run it, so it is refused where a policy could be about it, as that policy refuses; elsewhere it is nobody's business.
#[test]
fn a4_an_image_id_is_what_the_policies_that_could_be_about_it_make_of_it() {
    let in_mode = |mode: Mode| {
        let test = LabelTest::In(vec!["guarded".to_owned()]);
        let of_name = LabelRequirement { key: "kubernetes.io/metadata.name".to_owned(), test };
        let id = PolicyId { namespace: None, name: format!("{mode:?}") };
        PolicyEntry::Valid(Arc::new(Policy {
            id,
            mode,
            namespaces: LabelSelector(vec![of_name]),
            ..policy()
        }))
    };
    let judged = |entries: &[Mode], namespace: &str, unmatched: Unmatched, image: &str| {
        let set = PolicySet::new(entries.iter().copied().map(in_mode).collect(), 1);
        let labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
        let scope = Scope::Namespace { name: namespace, labels: Labels::All(&labels) };
        match plan(&set, scope, unmatched, Stage::Final, image) {
            Plan::Settled(verdict) => *verdict,
            Plan::Ask(_) => panic!("{image} is asked about"),
        }
    };
    let id = "sha256:e3b0c442";
    let (enforce, warn, audit) = (Mode::Enforce, Mode::Warn, Mode::Audit);
    for (modes, namespace, unmatched, denials, warnings, findings) in [
        (vec![enforce], "guarded", Unmatched::Allow, 1, 0, 0),
        (vec![audit, enforce], "guarded", Unmatched::Allow, 1, 0, 0),
        (vec![warn, audit], "guarded", Unmatched::Allow, 0, 1, 0),
        (vec![audit], "guarded", Unmatched::Allow, 0, 0, 1),
        (vec![enforce], "other", Unmatched::Allow, 0, 0, 0),
        (vec![], "other", Unmatched::Allow, 0, 0, 0),
        (vec![], "other", Unmatched::Warn, 0, 1, 0),
        (vec![audit], "guarded", Unmatched::Deny, 1, 0, 0),
    ] {
        let verdict = judged(&modes, namespace, unmatched, id);
        let found = (verdict.problems.len(), verdict.warnings.len(), verdict.audit.len());
        assert_eq!(found, (denials, warnings, findings), "{modes:?} {namespace} {unmatched:?}");
        assert_eq!(verdict.outcome == Outcome::Deny, denials > 0);
        assert_eq!(verdict.matched, found != (0, 0, 0));
    }
    // What no runtime pulls is refused, but where all policies that could be about it deny nothing.
    let unreadable = "ghcr.io/Org/App";
    assert_eq!(judged(&[audit], "other", Unmatched::Allow, unreadable).outcome, Outcome::Deny);
    assert_eq!(judged(&[audit, enforce], "guarded", Unmatched::Allow, unreadable).outcome, Outcome::Deny);
    let recorded = judged(&[audit], "guarded", Unmatched::Allow, unreadable);
    assert_eq!((recorded.outcome, recorded.audit.len()), (Outcome::Allow, 1));
}

#[test]
fn a15_a_condition_is_asked_for_the_platform_that_is_judged() {
    let amd64 = "image.platform == 'linux/amd64'";
    let world = |platforms: &[&'static str], of_index: &'static str| {
        World::with(|world| {
            world.policy.provenance.conditions = vec![condition(amd64)];
            world.platforms = platforms.to_vec();
            world.of_index = Some(of_index);
        })
    };
    // One manifest that the index lists without a platform is picked on every node.
    assert_eq!(world(&["linux/amd64"], "").judge().outcome, Outcome::Allow);
    for platforms in [&["linux/amd64", "linux/arm64"][..], &["linux/arm64", "linux/amd64"], &["linux/arm64"]]
    {
        let verdict = world(platforms, "").judge();
        assert_eq!(verdict.problems[0].reason, Reason::ConditionFailed);
        assert!(verdict.problems[0].found.contains(" on linux/arm64"), "{}", verdict.problems[0].found);
    }
    // What the index says of a manifest is not where it runs: a node of 386 does not become one of amd64.
    assert_eq!(world(&["linux/amd64"], "linux/386").judge().outcome, Outcome::Allow);
    assert_eq!(world(&["linux/386"], "linux/386").reasons(), [Reason::ConditionFailed]);
}

/// Whoever signs an attestation or writes a pod chooses words that end up in a denial.
#[test]
fn what_others_wrote_stays_on_its_line() {
    let injected = "x\nimage ghcr.io/o/a is admitted\u{202e}";
    let predicate = |text: String| {
        let mut signed = verified(&[digest("index")]);
        signed.statement.provenance = None;
        signed.statement.predicate_type = text;
        let found = vec![(digest("index"), Finding::Verified(Box::new(signed)))];
        message::denial(Some(&container()), &World::with(|world| world.found = found).judge())
    };
    let builder = |text: &str| {
        let mut world = World::signed(|signed| {
            let provenance = signed.statement.provenance.as_mut().unwrap();
            text.clone_into(&mut provenance.builder_id);
        });
        world.policy.provenance.builder_ids = vec![Glob::new("https://builder.example").unwrap()];
        message::denial(Some(&container()), &world.judge())
    };
    let mut reference = plan_for(vec![PolicyEntry::Valid(Arc::new(policy()))], &format!("{REPOSITORY}:v1"));
    let error = FetchError { kind: FetchErrorKind::NotFound, detail: injected.to_owned() };
    let detail = message::denial(Some(&container()), &unavailable(&reference, None, &error));
    reference.policies.clear();
    let settled = plan(&PolicySet::default(), Scope::Everywhere, Unmatched::Deny, reference.stage, injected);
    let Plan::Settled(settled) = settled else { panic!("nothing to ask") };
    let named = message::denial(Some(&container()), &settled);
    for text in [predicate(injected.to_owned()), builder(injected), detail, named] {
        assert!(text.contains("\\u{a}image ghcr.io/o/a is admitted\\u{202e}"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("image ghcr.io/o/a")), "{text}");
    }
    assert!(predicate("x".repeat(1 << 20)).len() < 10_000);
}

fn too_many() -> String {
    let image = |n: usize| Arc::new(WorkloadImage { image: format!("ghcr.io/o/a:{n}"), ..container() });
    let workload = Workload {
        kind: "Pod".into(),
        namespace: "n".into(),
        name: "p".into(),
        images: (0..130).map(image).collect(),
        placement: Placement::default(),
        pull: PullWith::default(),
    };
    let review = Review::of_too_many(&workload).unwrap();
    message::denial(Some(&review.images[0].image), &review.images[0].verdict)
}

#[test]
fn every_reason_has_a_message_worth_reading() {
    let denied = |world: World| message::denial(Some(&container()), &world.judge());
    let found = |finding: Finding| {
        denied(World::with(|world| world.found = vec![(digest("index"), finding.clone())]))
    };
    let gap = |kind| {
        denied(World::with(|world| {
            world.found.clear();
            world.gaps = vec![kind];
        }))
    };
    let failed = |kind, detail: &str| {
        let asked = plan_for(vec![PolicyEntry::Valid(Arc::new(policy()))], &format!("{REPOSITORY}:v1.2.0"));
        let verdict = unavailable(&asked, None, &FetchError { kind, detail: detail.into() });
        message::denial(Some(&container()), &verdict)
    };
    let settled = |unmatched, image: &str| {
        let labels = BTreeMap::new();
        match plan(
            &PolicySet::default(),
            Scope::Namespace { name: "x", labels: Labels::All(&labels) },
            unmatched,
            Stage::Final,
            image,
        ) {
            Plan::Settled(verdict) => message::denial(Some(&container()), &verdict),
            Plan::Ask(_) => panic!("nothing to ask"),
        }
    };
    let rules =
        |change: fn(&mut ProvenanceRules)| denied(World::with(|world| change(&mut world.policy.provenance)));
    let leaf = (digest("amd64"), Finding::Verified(Box::new(verified(&[digest("amd64")]))));
    let invalid = InvalidPolicy {
        id: PolicyId { namespace: Some("payments".into()), name: "broken".into() },
        namespaces: None,
        images: None,
        mode: Mode::Enforce,
        errors: vec!["spec.images.include: is empty".into(), "spec.signers: is empty".into()],
    };
    let set = PolicySet::new(vec![PolicyEntry::Invalid(Arc::new(invalid))], 1);
    let Plan::Settled(broken) = plan(&set, Scope::Everywhere, Unmatched::Allow, Stage::Final, REPOSITORY)
    else {
        panic!("nothing to ask")
    };
    let messages = [
        (Reason::NoProvenance, denied(World::with(|world| world.found.clear()))),
        (Reason::UnsignedProvenance, found(Finding::Unsigned { predicate_type: SLSA_V1.into() })),
        (
            Reason::UntrustedSignature,
            found(Finding::Untrusted("the certificate does not chain to the trust root sigstore".into())),
        ),
        (Reason::MalformedAttestation, found(Finding::Malformed("the envelope is not JSON".into()))),
        (
            Reason::WrongSigner,
            denied(World::signed(|s| {
                s.readings[0].certificate.subject =
                    s.readings[0].certificate.subject.replace("build-image", "other");
            })),
        ),
        (
            Reason::WrongSource,
            denied(World::signed(|s| {
                s.readings[0].certificate.source_ref = Some("refs/pull/7/merge".into());
            })),
        ),
        (
            Reason::WrongBuilder,
            rules(|r| r.builder_ids = vec![Glob::new("https://other.example/builder").unwrap()]),
        ),
        (Reason::WrongSummary, denied(with_summary(|summary, _| summary.result = "FAILED".into()))),
        (Reason::ProvenanceTooOld, rules(|r| r.max_age = Some(Duration::from_hours(24)))),
        (
            Reason::ConditionFailed,
            rules(|r| r.conditions = vec![condition("certificate.runner == 'self-hosted'")]),
        ),
        (Reason::PlatformNotCovered, denied(World::with(|world| world.found = vec![leaf]))),
        (Reason::PlatformMissing, denied(World::with(|world| world.platforms = vec!["linux/s390x"]))),
        (Reason::ImageNotFound, failed(FetchErrorKind::NotFound, "ghcr.io has no such manifest")),
        (
            Reason::MalformedImage,
            failed(FetchErrorKind::Malformed, "sha256:00 cannot be read: it is no manifest"),
        ),
        (Reason::RegistryDenied, gap(FetchErrorKind::Denied)),
        (Reason::RegistryUnavailable, gap(FetchErrorKind::Unavailable)),
        (Reason::RegistryThrottled, gap(FetchErrorKind::Throttled(Some(Duration::from_secs(7))))),
        (Reason::DeadlineExceeded, gap(FetchErrorKind::Deadline)),
        (Reason::NotAllInspected, gap(FetchErrorKind::Incomplete)),
        (Reason::InvalidReference, settled(Unmatched::Allow, "ghcr.io/Org/App")),
        (Reason::TooManyImages, too_many()),
        (Reason::InvalidPolicy, message::denial(Some(&container()), &broken)),
        (Reason::UnpinnedTag, denied(World::with(|world| world.policy.tags = TagRule::Deny))),
        (Reason::UnmatchedImage, settled(Unmatched::Deny, "nginx")),
    ];
    let told: BTreeSet<Reason> = messages.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(told, Reason::ALL.iter().copied().collect());
    for (reason, text) in &messages {
        assert!(text.contains(reason.as_str()), "{reason} is not in its message:\n{text}");
    }
    let all: Vec<&str> = messages.iter().map(|(_, text)| text.as_str()).collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

/// Provenance of the amd64 manifest alone, under a policy that keeps pods to what is covered.
fn partly(change: impl FnOnce(&mut World)) -> World {
    World::with(|world| {
        world.found = vec![(digest("amd64"), Finding::Verified(Box::new(verified(&[digest("amd64")]))))];
        world.policy.uncovered = UncoveredRule::Constrain;
        world.stage = Stage::Draft;
        change(world);
    })
}

#[test]
fn a_draft_is_kept_to_the_covered_platforms() {
    for unknown in [false, true] {
        let verdict = partly(|world| {
            if unknown {
                world.platforms.clear();
            }
        })
        .judge();
        assert_eq!(verdict.outcome, Outcome::Allow);
        assert_eq!(verdict.constrained, Some(vec![platform("linux/amd64")]));
        insta::allow_duplicates! {
            insta::assert_snapshot!(message::warning(Some(&container()), &verdict, &verdict.warnings[0]));
        }
    }
}

#[test]
fn what_is_no_draft_or_not_partly_covered_is_not_constrained() {
    type Change = fn(&mut World);
    let denied: [(&str, Change); 6] = [
        ("as it is judged it runs", |world| world.stage = Stage::Final),
        ("the policy denies", |world| world.policy.uncovered = UncoveredRule::Deny),
        ("nothing is covered", |world| world.found.clear()),
        ("no covered platform can be landed on", |world| world.platforms = vec!["linux/arm64"]),
        ("the rest may be covered, nobody knows", |world| world.gaps = vec![FetchErrorKind::Unavailable]),
        ("another runtime could pick what is not covered", |world| {
            world.platforms = vec!["linux/arm64", "linux/386"];
        }),
    ];
    for (why, change) in denied {
        let verdict = partly(change).judge();
        assert_ne!(verdict.outcome, Outcome::Allow, "{why}");
        assert_eq!(verdict.constrained, None, "{why}");
    }
    let whole = |world: &mut World| world.found = World::right().found;
    let covered = partly(whole).judge();
    assert_eq!((covered.outcome, covered.constrained), (Outcome::Allow, None), "nothing need be constrained");
    let today = partly(|world| {
        whole(world);
        world.platforms = vec!["linux/amd64"];
    });
    assert_eq!((today.judge().outcome, today.judge().constrained), (Outcome::Allow, None));
}

#[test]
fn c9_a_node_that_joins_later_is_thought_of_where_the_index_has_more_than_is_covered() {
    let today = partly(|world| world.platforms = vec!["linux/amd64"]).judge();
    assert_eq!(
        (today.outcome, today.constrained.clone()),
        (Outcome::Allow, Some(vec![platform("linux/amd64")]))
    );
    assert_eq!((today.warnings.len(), today.warnings[0].digest), (1, Some(digest("arm64"))));
    insta::assert_snapshot!(message::warning(Some(&container()), &today, &today.warnings[0]));
    // A pod that stays where it is, and one that runs as it is judged, is admitted where it lands today.
    for stage in [Stage::Final, Stage::Tied] {
        let verdict = partly(|world| {
            world.stage = stage;
            world.platforms = vec!["linux/amd64"];
        })
        .judge();
        assert_eq!((verdict.outcome, verdict.constrained, verdict.warnings.len()), (Outcome::Allow, None, 0));
    }
    let denied = partly(|world| world.stage = Stage::Tied).judge();
    assert_eq!((denied.outcome, denied.constrained), (Outcome::Deny, None));
}

#[test]
fn c9_what_nobody_could_find_out_of_a_platform_of_no_node_denies_nothing() {
    let verdict = partly(|world| {
        world.platforms = vec!["linux/amd64"];
        world.found.push((digest("index"), Finding::Untrusted("x".into())));
        world.gaps = vec![FetchErrorKind::Unavailable];
    })
    .judge();
    assert_eq!((verdict.outcome, verdict.constrained), (Outcome::Allow, Some(vec![platform("linux/amd64")])));
    assert!(verdict.warnings[0].reason.is_transient(), "so it is not remembered");
}

#[test]
fn c9_a_pod_is_steered_to_the_platforms_that_the_image_has() {
    const MIXED: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];
    let whole = |platforms: &'static [&'static str]| {
        partly(|world| {
            world.found = World::right().found;
            world.platforms = platforms.to_vec();
        })
        .judge()
    };
    let steered = whole(&MIXED);
    let both = vec![platform("linux/amd64"), platform("linux/arm64")];
    assert_eq!((steered.outcome, steered.constrained.clone()), (Outcome::Allow, Some(both)));
    insta::assert_snapshot!(message::warning(Some(&container()), &steered, &steered.warnings[0]));
    assert_eq!(whole(&MIXED[..2]).constrained, None);
    assert_eq!(whole(&MIXED[2..]).outcome, Outcome::Deny, "there is no node for it");
}

#[test]
fn c9_a_daemon_set_is_told_that_its_pods_will_be_refused() {
    let verdict = partly(|_| {}).judge();
    insta::assert_snapshot!(message::daemon_set_warning(&container(), &verdict, &verdict.warnings[0]));
}

#[test]
fn tags_of_drafts_will_be_pinned() {
    for (stage, outcome) in
        [(Stage::Final, Outcome::Deny), (Stage::Draft, Outcome::Allow), (Stage::Tied, Outcome::Allow)]
    {
        let world = World::with(|world| {
            world.policy.tags = TagRule::Deny;
            world.stage = stage;
        });
        assert_eq!(world.judge().outcome, outcome);
    }
}
