//! Policies as they are decided with, compiled from the wire types in `api`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use super::{
    condition::Condition,
    glob::{Glob, SearchCost},
    identity::{Signer, TrustRootName, cost_of_globs},
    level::BuildLevel,
    reference::Repository,
    summary::SummaryRules,
};

/// The name of a policy object, for messages and ordering.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    /// The namespace of a `ProvenancePolicy`; `None` for a `ClusterProvenancePolicy`.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl PolicyId {
    /// The kind of the object.
    pub const fn kind(&self) -> &'static str {
        match self.namespace {
            Some(_) => "ProvenancePolicy",
            None => "ClusterProvenancePolicy",
        }
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What a policy's verdict does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Mode {
    /// Recorded only.
    Audit,
    /// Admitted with a warning.
    Warn,
    /// Denied.
    #[default]
    Enforce,
}

/// What a reference without digest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TagRule {
    /// Nothing.
    Allow,
    /// A warning.
    #[default]
    Warn,
    /// A denial.
    Deny,
}

/// What a pod gets that could land on platforms that are not covered, beside others that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UncoveredRule {
    /// A denial.
    #[default]
    Deny,
    /// A node affinity that keeps it to the covered ones; a denial where nobody can add it any more.
    Constrain,
}

/// Which digest an attestation must name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SubjectRule {
    /// The manifest's own, or that of an index that leads to it.
    #[default]
    Any,
    /// The manifest's own.
    Platform,
}

/// Which images a policy is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSelector {
    /// Globs over the normalised repository; any one suffices.
    pub include: Vec<Glob>,
    /// Globs that take images out again.
    pub exclude: Vec<Glob>,
}

impl ImageSelector {
    /// Whether an image of `repository` is selected.
    pub fn selects(&self, repository: &Repository) -> bool {
        let fits = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(repository.as_str()));
        fits(&self.include) && !fits(&self.exclude)
    }
}

/// The label that each namespace has, with its name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What is known of an object's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels<'a> {
    /// All of them.
    All(&'a BTreeMap<String, String>),
    /// These, and nobody knows which others: policies only ever add requirements, so what could be selected is.
    Some(&'a BTreeMap<String, String>),
}

/// A label selector, compiled (`metav1.LabelSelector`). An empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector(pub Vec<LabelRequirement>);

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// What is asked of it.
    pub test: LabelTest,
}

/// What a label selector can ask of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelTest {
    /// The label is there with one of these values.
    In(Vec<String>),
    /// The label is not there or has none of these values.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with `labels` is selected, or may be as far as is known.
    pub fn selects(&self, labels: Labels<'_>) -> bool {
        self.0.iter().all(|requirement| {
            let value = match labels {
                Labels::All(all) => all.get(&requirement.key),
                Labels::Some(some) => match some.get(&requirement.key) {
                    None => return true,
                    value => value,
                },
            };
            match &requirement.test {
                LabelTest::In(values) => value.is_some_and(|value| values.contains(value)),
                LabelTest::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                LabelTest::Exists => value.is_some(),
                LabelTest::DoesNotExist => value.is_none(),
            }
        })
    }
}

/// What the verified statement must say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvenanceRules {
    /// Accepted predicate types; empty: every version of SLSA provenance that is known.
    pub types: Vec<String>,
    /// Accepted builder ids; empty: any.
    pub builder_ids: Vec<Glob>,
    /// Accepted build types; empty: any.
    pub build_types: Vec<Glob>,
    /// The claimed source repository.
    pub source_repository: Option<String>,
    /// Claimed source refs; empty: any.
    pub source_refs: Vec<Glob>,
    /// The least level of the build.
    pub min_level: BuildLevel,
    /// How old the build may be.
    pub max_age: Option<Duration>,
    /// Conditions over all of it; every one must hold.
    pub conditions: Vec<Condition>,
}

/// A policy that compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which object it is.
    pub id: PolicyId,
    /// The namespaces a cluster policy is for; moot for a namespaced one.
    pub namespaces: LabelSelector,
    /// What its verdict does.
    pub mode: Mode,
    /// Which images it is about.
    pub images: ImageSelector,
    /// Which digest must be named.
    pub subject: SubjectRule,
    /// What pods get that could land on uncovered platforms.
    pub uncovered: UncoveredRule,
    /// What references without digest get.
    pub tags: TagRule,
    /// Who may sign provenance; any one suffices.
    pub signers: Vec<Signer>,
    /// What the statement must say.
    pub provenance: ProvenanceRules,
    /// Where attestations are looked for beside the image's own repository.
    pub attestation_repositories: Vec<Repository>,
    /// The verification summaries that suffice in place of provenance; `None`: none does.
    pub summaries: Option<SummaryRules>,
    /// The predicate type that is asked for in place of provenance. No object can ask for it: a policy demands provenance, and this is for
    /// whoever asks on the command line.
    pub in_place_of_provenance: Option<String>,
}

impl Policy {
    /// Who may sign provenance, and who may sign summaries of it.
    pub fn all_signers(&self) -> impl Iterator<Item = &Signer> {
        self.signers.iter().chain(self.summaries.iter().flat_map(|rules| &rules.signers))
    }

    /// What it costs to hold one attestation against it, roughly.
    pub fn cost(&self) -> SearchCost {
        let ProvenanceRules { builder_ids, build_types, source_refs, .. } = &self.provenance;
        let rules = [builder_ids, build_types, source_refs].map(|globs| cost_of_globs(globs));
        self.all_signers().map(Signer::cost).chain(rules).fold(0, usize::saturating_add)
    }

    /// Whether it names a verifier whose summaries suffice, and nobody who may sign them.
    pub fn lacks_summary_signers(&self) -> bool {
        self.summaries.as_ref().is_some_and(|rules| rules.signers.is_empty())
    }
}

/// A policy that is there and does not compile. It fails closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPolicy {
    /// Which object it is.
    pub id: PolicyId,
    /// The namespaces it is for, where that could be read; `None`: all.
    pub namespaces: Option<LabelSelector>,
    /// The images it names, where they could be read; `None`: every image in its reach.
    pub images: Option<ImageSelector>,
    /// What its verdict does: it denies unless it says plainly that it does not.
    pub mode: Mode,
    /// What is wrong with it.
    pub errors: Vec<String>,
}

/// A policy in the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyEntry {
    /// It compiled.
    Valid(Arc<Policy>),
    /// It did not, and fails closed.
    Invalid(Arc<InvalidPolicy>),
}

impl PolicyEntry {
    /// Which object it is.
    pub fn id(&self) -> &PolicyId {
        match self {
            Self::Valid(policy) => &policy.id,
            Self::Invalid(policy) => &policy.id,
        }
    }

    /// What its verdict does.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Valid(policy) => policy.mode,
            Self::Invalid(policy) => policy.mode,
        }
    }

    /// What it costs to hold one repository against the images that it names.
    fn cost_of_images(&self) -> SearchCost {
        let images = match self {
            Self::Valid(policy) => Some(&policy.images),
            Self::Invalid(policy) => policy.images.as_ref(),
        };
        images
            .map_or(0, |images| cost_of_globs(&images.include).saturating_add(cost_of_globs(&images.exclude)))
    }

    /// Whether it is for what is in `scope`, whatever images it names.
    fn is_in_scope(&self, scope: Scope<'_>) -> bool {
        match (scope, &self.id().namespace, self) {
            (Scope::Everywhere, _, _) => true,
            (Scope::Namespace { name, .. }, Some(own), _) => own == name,
            (Scope::Namespace { labels, .. }, None, Self::Valid(policy)) => policy.namespaces.selects(labels),
            (Scope::Namespace { labels, .. }, None, Self::Invalid(policy)) => {
                policy.namespaces.as_ref().is_none_or(|selector| selector.selects(labels))
            }
        }
    }

    fn applies(&self, scope: Scope<'_>, repository: &Repository) -> bool {
        self.is_in_scope(scope)
            && match self {
                Self::Valid(policy) => policy.images.selects(repository),
                Self::Invalid(policy) => {
                    policy.images.as_ref().is_none_or(|images| images.selects(repository))
                }
            }
    }
}

/// What an image gets that no policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Unmatched {
    /// Admitted.
    #[default]
    Allow,
    /// Admitted with a warning.
    Warn,
    /// Denied.
    Deny,
}

/// Which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All, whatever namespace they are for: on the command line.
    Everywhere,
    /// Those of a namespace, and the cluster's that select it by its labels.
    Namespace {
        /// Its name.
        name: &'a str,
        /// Its labels.
        labels: Labels<'a>,
    },
}

/// Every policy in force, and a number that changes whenever they do.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    entries: Vec<PolicyEntry>,
    /// What it costs to hold one repository against the policies of the cluster, and against those of each namespace.
    cost_of_cluster: SearchCost,
    costs: HashMap<String, SearchCost>,
    /// Changes with the set; part of the key of every cached verdict.
    pub generation: u64,
}

impl PolicySet {
    /// A set in a stable order.
    pub fn new(mut entries: Vec<PolicyEntry>, generation: u64) -> Self {
        entries.sort_by(|a, b| a.id().cmp(b.id()));
        let mut set = Self { generation, ..Self::default() };
        for entry in &entries {
            let cost = match &entry.id().namespace {
                Some(namespace) => set.costs.entry(namespace.clone()).or_default(),
                None => &mut set.cost_of_cluster,
            };
            *cost = cost.saturating_add(entry.cost_of_images());
        }
        Self { entries, ..set }
    }

    /// What it costs to find the policies for one image of a namespace, roughly.
    pub fn cost(&self, namespace: &str) -> SearchCost {
        let of_namespace = self.costs.get(namespace).copied().unwrap_or_default();
        self.cost_of_cluster.saturating_add(of_namespace)
    }

    /// The policies that an image in `scope` must satisfy: all of them.
    pub fn matching(&self, scope: Scope<'_>, repository: &Repository) -> Vec<&PolicyEntry> {
        self.entries.iter().filter(|entry| entry.applies(scope, repository)).collect()
    }

    /// The policies that are for what is in `scope`, whatever images they name.
    pub fn in_scope<'a>(&'a self, scope: Scope<'a>) -> impl Iterator<Item = &'a PolicyEntry> {
        self.entries.iter().filter(move |entry| entry.is_in_scope(scope))
    }

    /// The trust roots that signers name, each with the policy.
    pub fn named_roots(&self) -> impl Iterator<Item = (&PolicyId, &TrustRootName)> {
        let valid = self.entries.iter().filter_map(|entry| match entry {
            PolicyEntry::Valid(policy) => Some(policy),
            PolicyEntry::Invalid(_) => None,
        });
        valid.flat_map(|policy| policy.all_signers().filter_map(|signer| Some((&policy.id, signer.root()?))))
    }

    /// All policies, in order.
    pub fn entries(&self) -> &[PolicyEntry] {
        &self.entries
    }
}
