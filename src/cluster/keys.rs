//! Keys that policies reference: the Secrets and `ConfigMap` objects that hold them are read one by one, by name, again and again for
//! as long as a policy references them. None is listed or watched, and where nothing is referenced nothing is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{call, inventory::ClusterInventory};
use crate::api::compile::{KeyHolder, KeyKeeper, KeyObject, Keys, MAX_PEM, Unfound, entries};

/// How often is looked at what is there, and at what is not: somebody waits for that.
const AGAIN: Duration = Duration::from_secs(5);
const MISSING_AGAIN: Duration = Duration::from_secs(1);
/// How many objects are read at this rate; of more, each is read as much less often.
const AT_THIS_RATE: usize = 50;
/// How many are read at once. Each may be as large as the API server stores.
const AT_ONCE: usize = 2;
/// The most bytes of keys that are kept for one namespace, for all together, and for each namespace in any case.
const OF_NAMESPACE: usize = 512 << 10;
const OF_ALL: usize = 8 << 20;
const GUARANTEED: usize = 32 << 10;

/// By object, the entries of it that policies reference.
pub type Wanted = BTreeMap<KeyHolder, BTreeSet<String>>;

/// What policies reference, as it was last read.
#[derive(Debug)]
pub struct KeyObjects {
    home: String,
    /// Whether objects are read at all.
    enabled: bool,
    known: Mutex<Known>,
    /// Policies may reference something else.
    referenced: Notify,
    /// Whether what the first policies reference was looked at.
    settled: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    holders: BTreeMap<KeyHolder, Holder>,
    /// Changes with every content.
    revision: u64,
}

#[derive(Debug)]
struct Holder {
    seen: Seen,
    /// The entries that were looked for; of the others nothing is kept.
    entries: BTreeSet<String>,
    /// When it is looked at next.
    next: Instant,
    /// Since which revision it is as it is.
    revision: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// It could not be read, and never was.
    Failed(String),
    Gone,
    There(BTreeMap<String, Option<String>>),
}

impl Seen {
    /// How many bytes are kept of it.
    fn bytes(&self) -> usize {
        match self {
            Self::Failed(why) => why.len(),
            Self::Gone => 0,
            Self::There(entries) => {
                let each = entries
                    .iter()
                    .map(|(key, text)| key.len().saturating_add(text.as_ref().map_or(0, String::len)));
                each.fold(0, usize::saturating_add)
            }
        }
    }
}

impl Known {
    /// How many bytes are kept, of which so many for a namespace; what is kept of one object is left out.
    fn bytes(&self, namespace: &str, but: Option<&KeyHolder>) -> (usize, usize) {
        let counted = self.holders.iter().filter(|(holder, _)| Some(*holder) != but);
        counted.fold((0, 0), |(all, own), (holder, known)| {
            let bytes = known.seen.bytes();
            let of_namespace = if holder.namespace == namespace { bytes } else { 0 };
            (all.saturating_add(bytes), own.saturating_add(of_namespace))
        })
    }

    /// What was seen, or why there is no room for it.
    fn bounded(&self, holder: &KeyHolder, seen: Seen) -> Seen {
        let bytes = seen.bytes();
        let (all, own) = self.bytes(&holder.namespace, Some(holder));
        let (all, own) = (all.saturating_add(bytes), own.saturating_add(bytes));
        if own <= OF_NAMESPACE && (all <= OF_ALL || own <= GUARANTEED) {
            return seen;
        }
        Seen::Failed(format!(
            "its keys are too large: those that policies reference in one namespace may take {} KiB, and all together {} MiB",
            OF_NAMESPACE >> 10,
            OF_ALL >> 20
        ))
    }
}

impl KeyObjects {
    /// How many bytes are kept.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.known.lock().bytes("", None).0).unwrap_or(u64::MAX)
    }

    /// Nothing is read yet. Cluster policies reference what is in `home`; where it is not `enabled`, nothing ever is.
    pub fn new(home: String, enabled: bool) -> Arc<Self> {
        Arc::new(Self {
            home,
            enabled,
            known: Mutex::default(),
            referenced: Notify::new(),
            settled: AtomicBool::new(!enabled),
        })
    }

    /// Which state of what was read this is.
    pub(super) fn revision(&self) -> u64 {
        self.known.lock().revision
    }

    /// Whether some of these are others than they were then.
    pub(super) fn have_changed(&self, objects: &BTreeSet<KeyObject>, then: u64) -> bool {
        let known = self.known.lock();
        let is_newer = |object: &KeyObject| {
            known.holders.get(&object.holder).is_some_and(|holder| holder.revision > then)
        };
        objects.iter().any(is_newer)
    }

    /// Policies may reference something else from now on.
    pub(super) fn referenced(&self) {
        self.referenced.notify_one();
    }

    /// Whether what the first policies reference was looked at, and is in force. It stays so: what comes later keeps nobody waiting.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Reads what policies reference, for ever, and has them compiled anew where it is another than before.
    pub async fn run(self: Arc<Self>, client: Client, inventory: Arc<ClusterInventory>) {
        if !self.enabled {
            return std::future::pending().await;
        }
        let mut trouble = call::Trouble::new("read keys that policies reference");
        loop {
            let are_all_known = inventory.lists_policies();
            let wanted = inventory.wanted_keys();
            let due = self.due(&wanted);
            let looking =
                due.into_iter().map(|(holder, keys)| self.look(&client, holder, keys, wanted.len()));
            let failed: Vec<String> = stream::iter(looking.collect::<Vec<_>>())
                .buffer_unordered(AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await;
            match failed.first() {
                Some(error) => trouble.goes_on(error),
                None => trouble.is_over(),
            }
            inventory.compile_anew();
            if are_all_known && !self.settled.swap(true, Ordering::Relaxed) {
                inventory.keys_settled();
            }
            let next = self.known.lock().holders.values().map(|holder| holder.next).min();
            let until_next = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    // Nothing is referenced.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.referenced.notified() => {}
                () = until_next => {}
            }
        }
    }

    /// What is to be looked at now. What nobody references any more is forgotten.
    fn due(&self, wanted: &Wanted) -> Wanted {
        let now = Instant::now();
        let mut known = self.known.lock();
        known.holders.retain(|holder, _| wanted.contains_key(holder));
        let is_due = |(holder, keys): &(&KeyHolder, &BTreeSet<String>)| {
            known
                .holders
                .get(holder)
                .is_none_or(|known| known.next <= now || !known.entries.is_superset(keys))
        };
        wanted.iter().filter(is_due).map(|(holder, keys)| (holder.clone(), keys.clone())).collect()
    }

    /// Looks at one object. What went wrong, where it could not be read.
    async fn look(
        &self,
        client: &Client,
        holder: KeyHolder,
        keys: BTreeSet<String>,
        all: usize,
    ) -> Option<String> {
        let resource = match holder.kind {
            KeyKeeper::Secret => ApiResource::erase::<Secret>(&()),
            KeyKeeper::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
        };
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), &holder.namespace, &resource);
        let read = call::within(call::LIMIT, objects.get_opt(&holder.name)).await;
        let (seen, error) = match read {
            Ok(None) => (Seen::Gone, None),
            Ok(Some(object)) => {
                let mut all = entries(holder.kind, &object.data);
                // A Secret may hold much else, and an entry be of a megabyte.
                all.retain(|key, _| keys.contains(key));
                all.values_mut().flatten().for_each(shorten);
                (Seen::There(all), None)
            }
            Err(error) => {
                let error = call::words(&error);
                (Seen::Failed(error.clone()), Some(format!("{holder}: {error}")))
            }
        };
        self.take(holder, seen, keys, all);
        error
    }

    fn take(&self, holder: KeyHolder, seen: Seen, keys: BTreeSet<String>, all: usize) {
        let mut known = self.known.lock();
        let seen = known.bounded(&holder, seen);
        let next = |seen: &Seen| {
            let wait = if matches!(seen, Seen::There(_)) { AGAIN } else { MISSING_AGAIN };
            Instant::now() + paced(wait, all)
        };
        let revision = known.revision.saturating_add(1);
        if let Some(before) = known.holders.get_mut(&holder) {
            // What was last known stays in force, and only the API server's word that it is gone takes it away.
            let stays = matches!((&before.seen, &seen), (Seen::There(_) | Seen::Gone, Seen::Failed(_)));
            if stays || (before.seen == seen && before.entries == keys) {
                before.next = next(&before.seen);
                return;
            }
        }
        let next = next(&seen);
        known.revision = revision;
        known.holders.insert(holder, Holder { seen, entries: keys, next, revision });
    }
}

impl Keys for KeyObjects {
    fn home(&self) -> &str {
        &self.home
    }

    fn find(&self, wanted: &KeyObject) -> Result<String, Unfound> {
        if !self.enabled {
            let why =
                "switch on keyReferences.enabled of the chart (--key-references), or write the key as pem";
            return Err(Unfound::Unread(why.to_owned()));
        }
        let known = self.known.lock();
        let holder = known.holders.get(&wanted.holder).ok_or(Unfound::NotYet)?;
        match &holder.seen {
            Seen::Failed(why) => Err(Unfound::Failed(why.clone())),
            Seen::Gone => Err(Unfound::Object),
            Seen::There(_) if !holder.entries.contains(&wanted.key) => Err(Unfound::NotYet),
            Seen::There(entries) => {
                entries.get(&wanted.key).ok_or(Unfound::Entry)?.clone().ok_or(Unfound::NoText)
            }
        }
    }
}

/// As much of a text as tells that it is too long for a key.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_PEM.saturating_add(1)) {
        text.truncate(end);
        text.shrink_to_fit();
    }
}

/// About so long, and longer where there are many: replicas do not all ask at once, and nobody makes them ask without bound.
fn paced(wait: Duration, all: usize) -> Duration {
    let slower = u32::try_from(all / AT_THIS_RATE).unwrap_or(u32::MAX).saturating_add(1);
    let random = RandomState::new().build_hasher().finish() % 200;
    let per_mille = u32::try_from(random).unwrap_or_default().saturating_add(900);
    wait.saturating_mul(slower).saturating_mul(per_mille) / 1000
}

#[cfg(test)]
mod tests;
