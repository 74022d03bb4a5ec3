//! The trust roots in force, and what changes them while the process lives: objects that are made, changed and removed, and roots that
//! are fetched.
//!
//! Whatever goes wrong takes away one root at the most, the one it is about, and never the last good one that was fetched.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    Roots,
    object::{self, CompiledTrustRoot, Usable},
    root::{Root, RootError},
};
use crate::{
    api::compile::TufSource,
    domain::{
        digest::Digest,
        evidence::{Attestation, Finding, KnownRoots},
        identity::TrustRootName,
        key::{KeyCheck, PublicKey},
        provenance::Statement,
    },
    gather::ports::{RawAttestation, RootKeeper, RootReport, TrustRoots},
};

/// What there is to say of an object of a name that a flag or the program itself has given away.
const TAKEN: &str =
    "a root of this name is built in or given by --trust-root, and an object does not replace it";

/// Keeps the trust roots.
pub struct Keeper {
    /// The roots that no object replaces.
    base: Vec<Arc<Root>>,
    state: Mutex<State>,
    current: ArcSwap<InForce>,
    followed_changed: Notify,
    /// Whether predicates are kept that are neither provenance nor a summary of it.
    keeps_others: bool,
}

#[derive(Default)]
struct State {
    /// By the objects' names: the root, or what is wrong.
    objects: BTreeMap<TrustRootName, Result<Usable, String>>,
    /// Where roots of the base are fetched from.
    followed: BTreeMap<TrustRootName, TufSource>,
    fetched: HashMap<Followed, Fetched>,
    /// How often other roots were put in force.
    changes: u64,
}

/// A root that is fetched: its name, and from where.
pub type Followed = (TrustRootName, TufSource);

/// What came of fetching a root.
#[derive(Default)]
struct Fetched {
    /// The last good one, and when it was last found to be current.
    root: Option<(Arc<Root>, Timestamp)>,
    /// What went wrong since.
    trouble: Option<String>,
}

/// What reviews see: all of it at one moment.
struct InForce {
    roots: Roots,
    known: Arc<KnownRoots>,
    contents: Digest,
    generation: u64,
}

impl Keeper {
    /// Keeps these, whatever objects there are.
    pub fn new(base: Roots) -> Self {
        let base = base.roots;
        let current = ArcSwap::from_pointee(InForce::of(base.clone(), BTreeMap::new(), 0));
        Self { base, state: Mutex::default(), current, followed_changed: Notify::new(), keeps_others: false }
    }

    /// Keeps what other attestations say, too. Whoever only judges by policies forgets it at once: a list of parts can be of megabytes.
    #[must_use]
    pub fn keeping_other_predicates(mut self) -> Self {
        self.keeps_others = true;
        self
    }

    fn trimmed(&self, statement: &mut Statement) {
        if !self.keeps_others {
            statement.other = None;
        }
    }

    /// Has a root of the base fetched from here; until it is, it stays as it is.
    pub fn follow(&self, name: TrustRootName, source: TufSource) {
        self.state.lock().followed.insert(name, source);
        self.followed_changed.notify_one();
    }

    /// The roots that are fetched.
    pub fn followed(&self) -> Vec<Followed> {
        self.state.lock().followed().map(|(name, source)| (name.clone(), source.clone())).collect()
    }

    /// Ends when other roots are to be fetched than before.
    pub async fn followed_changed(&self) {
        self.followed_changed.notified().await;
    }

    /// A source gave this trust root, at this time. Whether it is another than before.
    ///
    /// # Errors
    /// Where it cannot be used: the last good one stays.
    pub fn fetched(&self, root: &Followed, json: &str, now: Timestamp) -> Result<bool, RootError> {
        let followed = root;
        let root = Root::from_json(followed.0.clone(), json)?;
        let mut state = self.state.lock();
        if !state.is_followed(followed) {
            return Ok(false);
        }
        let fetched = state.fetched.entry(followed.clone()).or_default();
        let is_same = |(known, _): &(Arc<Root>, Timestamp)| known.fingerprint == root.fingerprint;
        let root = match &fetched.root {
            Some(known) if is_same(known) => Arc::clone(&known.0),
            _ => Arc::new(root),
        };
        *fetched = Fetched { root: Some((root, now)), trouble: None };
        Ok(self.publish(&mut state))
    }

    /// A source gave nothing that can be used. The last good root stays.
    pub fn not_fetched(&self, root: &Followed, why: String) {
        let mut state = self.state.lock();
        if state.is_followed(root) {
            state.fetched.entry(root.clone()).or_default().trouble = Some(why);
            self.publish(&mut state);
        }
    }

    /// For each root in force, since when it is known to be current: when it was last fetched, or when the newest of its keys came into use.
    pub fn current_since(&self) -> Vec<(TrustRootName, Timestamp)> {
        let state = self.state.lock();
        let fetched = |name: &TrustRootName| {
            let (_, source) = state.followed().find(|(followed, _)| *followed == name)?;
            state.root(name, source).map(|(_, at)| *at)
        };
        let in_force = self.current.load();
        let since = |(name, validity): (&TrustRootName, super::RootValidity)| {
            fetched(name).or(validity.newest).map(|since| (name.clone(), since))
        };
        in_force.roots.validities().filter_map(since).collect()
    }

    /// Puts in force what the state says. Whether that is anything else than before.
    fn publish(&self, state: &mut State) -> bool {
        let mut roots: Vec<Arc<Root>> = Vec::new();
        for root in &self.base {
            let newer = state.followed.get(&root.name).and_then(|source| state.root(&root.name, source));
            roots.push(Arc::clone(newer.map_or(root, |(newer, _)| newer)));
        }
        let mut failed = BTreeMap::new();
        for (name, object) in &state.objects {
            if self.has_base(name) {
                continue;
            }
            match object {
                Ok(Usable::Root(root)) => roots.push(Arc::clone(root)),
                Ok(Usable::Fetched(source)) => match state.root(name, source) {
                    Some((root, _)) => roots.push(Arc::clone(root)),
                    None => drop(failed.insert(name.clone(), state.waiting_for(name, source))),
                },
                Err(why) => drop(failed.insert(name.clone(), why.clone())),
            }
        }
        let before = self.current.load();
        let mut next = InForce::of(roots, failed, state.changes);
        let is_other = next.contents != before.contents;
        if is_other {
            // What was in force once and is again is no reason to use what was learnt then.
            state.changes = state.changes.saturating_add(1);
            next.generation = generation(&next.contents, state.changes);
            let names: Vec<String> = next.known.in_force.iter().map(ToString::to_string).collect();
            tracing::info!(trust_roots = names.join(" "), "other trust roots are in force");
        } else {
            next.generation = before.generation;
        }
        for (name, why) in
            next.known.failed.iter().filter(|(name, why)| before.known.failed.get(*name) != Some(*why))
        {
            tracing::error!(
                trust_root = name.to_string(),
                why,
                "a trust root is not in force; signers that name it are never satisfied"
            );
        }
        self.current.store(Arc::new(next));
        is_other
    }

    fn has_base(&self, name: &TrustRootName) -> bool {
        self.base.iter().any(|root| root.name == *name)
    }
}

impl State {
    /// The roots that are fetched, each once: those of the base first, whose names no object takes.
    fn followed(&self) -> impl Iterator<Item = (&TrustRootName, &TufSource)> {
        let objects = self.objects.iter().filter_map(|(name, object)| match object {
            Ok(Usable::Fetched(source)) => Some((name, source)),
            Ok(Usable::Root(_)) | Err(_) => None,
        });
        self.followed.iter().chain(objects.filter(|(name, _)| !self.followed.contains_key(*name)))
    }

    fn is_followed(&self, (name, source): &Followed) -> bool {
        self.followed().any(|known| known == (name, source))
    }

    fn of(&self, name: &TrustRootName, source: &TufSource) -> Option<&Fetched> {
        self.fetched.get(&(name.clone(), source.clone()))
    }

    /// The last good root that was fetched, and when.
    fn root(&self, name: &TrustRootName, source: &TufSource) -> Option<&(Arc<Root>, Timestamp)> {
        self.of(name, source)?.root.as_ref()
    }

    /// Why a root that is fetched is not there.
    fn waiting_for(&self, name: &TrustRootName, source: &TufSource) -> String {
        match self.of(name, source).and_then(|fetched| fetched.trouble.as_ref()) {
            Some(trouble) => format!("it could not be fetched from {}: {trouble}", source.mirror),
            None => format!("it is not yet fetched from {}", source.mirror),
        }
    }
}

impl InForce {
    fn of(roots: Vec<Arc<Root>>, failed: BTreeMap<TrustRootName, String>, changes: u64) -> Self {
        let roots = Roots::of(roots);
        let in_force = roots.roots.iter().map(|root| root.name.clone()).collect();
        let contents = roots.contents;
        let known = Arc::new(KnownRoots { in_force, failed });
        Self { generation: generation(&contents, changes), roots, known, contents }
    }
}

fn generation(contents: &Digest, changes: u64) -> u64 {
    let all = [contents.bytes(), &changes.to_be_bytes()].concat();
    Digest::of(&all).bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl TrustRoots for Keeper {
    fn verify(&self, raw: &RawAttestation, now: Timestamp) -> Attestation {
        let mut attestation = self.current.load().roots.verify(raw, now);
        match &mut attestation.finding {
            Finding::Verified(verified) => self.trimmed(&mut verified.statement),
            Finding::Keyed(keyed) => self.trimmed(&mut keyed.statement),
            Finding::Unsigned { .. } | Finding::Untrusted(_) | Finding::Malformed(_) => (),
        }
        attestation
    }

    fn check_key(&self, raw: &RawAttestation, key: &PublicKey, now: Timestamp) -> KeyCheck {
        self.current.load().roots.check_key(raw, key, now)
    }

    fn read_statement(&self, payload: &[u8]) -> Result<Statement, String> {
        let mut statement = self.current.load().roots.read_statement(payload)?;
        self.trimmed(&mut statement);
        Ok(statement)
    }

    fn known(&self) -> Option<Arc<KnownRoots>> {
        Some(Arc::clone(&self.current.load().known))
    }

    // Whoever asks for the generation and then verifies does so by these roots or by newer ones.
    fn generation(&self) -> u64 {
        self.current.load().generation
    }
}

impl RootKeeper for Keeper {
    fn keep(&self, objects: &[Value]) {
        let mut compiled: BTreeMap<TrustRootName, Result<Usable, String>> = BTreeMap::new();
        for object in objects {
            let CompiledTrustRoot { name, usable, errors, .. } = object::compile(object);
            let told = || errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let result = if compiled.contains_key(&name) {
                Err("there are two objects of this name".to_owned())
            } else {
                usable.ok_or_else(told)
            };
            compiled.insert(name, result);
        }
        let mut state = self.state.lock();
        state.objects = compiled;
        // What nobody names any more is forgotten; whoever names it again begins anew.
        let mut fetched = std::mem::take(&mut state.fetched);
        fetched.retain(|root, _| state.is_followed(root));
        state.fetched = fetched;
        self.publish(&mut state);
        self.followed_changed.notify_one();
    }

    fn report(&self, name: &TrustRootName, now: Timestamp) -> Option<RootReport> {
        let with_warnings = |message: String, root: &Root| {
            [message].into_iter().chain(root.ends.warnings(now)).collect::<Vec<_>>().join("; ")
        };
        let state = self.state.lock();
        let report = |ready, reason, message| Some(RootReport { ready, reason, message });
        match state.objects.get(name)? {
            _ if self.has_base(name) => report(false, "Invalid", TAKEN.to_owned()),
            Err(why) => report(false, "Invalid", format!("signers that name it are never satisfied: {why}")),
            Ok(Usable::Root(root)) => {
                report(true, "InForce", with_warnings("the trust root is in force".to_owned(), root))
            }
            Ok(Usable::Fetched(source)) => match state.of(name, source) {
                Some(Fetched { root: Some((root, _)), trouble: None }) => {
                    let message = format!("the trust root is in force, as {} has it", source.mirror);
                    report(true, "InForce", with_warnings(message, root))
                }
                Some(Fetched { root: Some((root, at)), trouble: Some(trouble) }) => {
                    let message = format!(
                        "the trust root is in force as it was fetched at {at}; since then: {trouble}"
                    );
                    report(true, "InForce", with_warnings(message, root))
                }
                _ => report(
                    false,
                    "NotFetched",
                    format!("signers that name it are never satisfied: {}", state.waiting_for(name, source)),
                ),
            },
        }
    }

    fn known(&self) -> Arc<KnownRoots> {
        Arc::clone(&self.current.load().known)
    }
}

#[cfg(test)]
mod tests;
