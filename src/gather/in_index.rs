//! `BuildKit`'s attestation manifests in an index: what they say, and who signed them.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};

use super::{
    budget::{Budget, Unread},
    discover::{Descriptor, Discovery, Gathered, Miss, parse},
    lanes::{Room, Stop},
    ports::Manifest,
    weigh,
};
use crate::domain::{
    digest::Digest,
    evidence::{FetchError, FetchErrorKind, Layout, Root},
    platform::{EntryKind, IndexEntry},
    reference::Repository,
    vouch::Said,
};

/// How many attestation manifests are looked at for one manifest. `BuildKit` writes one.
pub const MAX_HOLDERS: usize = 4;
/// How many statements with provenance are read of one attestation manifest. `BuildKit` writes one.
const MAX_STATEMENTS: usize = 8;
/// How many of them are asked for at once.
const CONCURRENCY: usize = 4;
/// How long reading one may wait for a thread.
const READING: Duration = Duration::from_secs(3);
const IN_TOTO: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// An attestation manifest that the index lists for a manifest.
pub struct Listed {
    /// Its digest.
    pub digest: Digest,
    /// The nested indexes on the way to it from the image's.
    pub via: Vec<Digest>,
}

/// What was found out about an attestation manifest.
#[derive(Debug, Clone)]
pub struct Holder {
    /// What is attached to it.
    pub signatures: Gathered,
    /// What it says: nothing, where it did not matter because nobody signed it.
    pub said: Arc<Vec<Said>>,
    /// The type of the provenance that it says to hold. A hint.
    pub predicate_type: Option<String>,
    /// Why it could not be read.
    pub unread: Option<FetchError>,
}

impl Holder {
    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        let unread = self.unread.as_ref().map_or(0, |error| error.detail.len());
        let said = self.said.iter().map(weigh::said).fold(unread, usize::saturating_add);
        self.signatures.bytes().saturating_add(said)
    }

    /// Whether asking again would find no more. What is beyond a limit is there the next time too.
    pub fn is_whole(&self) -> bool {
        let mut gaps = self.unread.iter().chain(&self.signatures.evidence.gaps);
        gaps.all(|gap| gap.kind == FetchErrorKind::Incomplete)
    }
}

/// What a manifest of layers says.
#[derive(Default)]
struct Read {
    said: Vec<Said>,
    predicate_type: Option<String>,
    unread: Option<FetchError>,
}

impl Discovery {
    /// The referrers of an attestation manifest, and what it says: the list and the manifest at once, then what they name. Its layers are
    /// read only where it has referrers or `is_signed` from above. `home` is where the image is, and by whom it is asked for there.
    ///
    /// # Errors
    /// A room that is too small, or an internal error; what a registry failed with is a gap.
    pub async fn in_index(
        &self,
        repository: &Repository,
        home: (&Self, &Repository),
        digest: Digest,
        is_signed: bool,
        room: Room,
    ) -> Result<Holder, Stop> {
        let (owner, home) = home;
        let budget = Budget::new(room);
        let (listed, manifest) = tokio::join!(
            self.source.list_referrers(repository, &digest),
            owner.source.manifest(home, &digest)
        );
        let wanted = is_signed || !listed.referrers.is_empty();
        let (found, read) = tokio::join!(
            self.listed(repository, Layout::InIndexReferrer, &digest, listed, &budget),
            owner.said(home, manifest, wanted, &budget)
        );
        if budget.wants_more() {
            return Err(Stop::TooSmall);
        }
        let Read { said, predicate_type, unread } = read;
        let signatures = self.gathered(found, &budget).await?;
        Ok(Holder { signatures, said: Arc::new(said), predicate_type, unread })
    }

    async fn said(
        &self,
        repository: &Repository,
        manifest: Result<Manifest, FetchError>,
        wanted: bool,
        budget: &Budget,
    ) -> Read {
        let malformed = |found_at, why: String| Said { found_at, statement: Err(why) };
        let mut read = Read::default();
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) if error.kind.is_transient() => {
                return Read { unread: Some(self.source.tell(repository, error)), ..read };
            }
            // A copy of the image without its attestations: there is nothing to be read.
            Err(_) => return read,
        };
        let unusable = |why: String| vec![malformed(manifest.digest, why)];
        match budget.take(manifest.bytes.len()) {
            Ok(()) => {}
            Err(Unread::TooLarge(why)) => return Read { said: unusable(why), ..read },
            Err(Unread::NotReached(why)) => {
                return Read { unread: Some(FetchError::not_inspected(why)), ..read };
            }
        }
        let Some(holder) = parse(&manifest) else {
            let why = "the attestation manifest cannot be parsed".to_owned();
            return Read { said: unusable(why), ..read };
        };
        let stated = |layer: &Descriptor| layer.annotation(PREDICATE_TYPE).map(ToOwned::to_owned);
        let layers = holder.layers.into_iter().filter(|layer| {
            layer.media_type == IN_TOTO && stated(layer).is_none_or(|kind| kind.starts_with(PROVENANCE))
        });
        let mut layers: Vec<Descriptor> = layers.collect();
        read.predicate_type = layers.iter().find_map(stated);
        if !wanted {
            return read;
        }
        let beyond = layers.split_off(layers.len().min(MAX_STATEMENTS));
        let asked = layers.into_iter().map(|layer| async move {
            let found_at = layer.digest;
            match self.blob(repository, Layout::InIndex, &layer, budget).await {
                Ok(payload) => {
                    let trust = Arc::clone(&self.trust);
                    let statement = self.on_a_thread(move || trust.read_statement(&payload)).await?;
                    Ok(Said { found_at, statement })
                }
                Err(Miss::Gap(error)) => Err(error),
                Err(Miss::Unusable(_, found_at, why)) => Ok(malformed(found_at, why)),
            }
        });
        let all: Vec<Result<Said, FetchError>> = stream::iter(asked).buffered(CONCURRENCY).collect().await;
        for one in all {
            match one {
                Ok(said) => read.said.push(said),
                Err(error) => read.unread = Some(error),
            }
        }
        if !beyond.is_empty() && read.unread.is_none() {
            let why =
                format!("more than {MAX_STATEMENTS} statements are in an attestation manifest of the index");
            read.unread = Some(FetchError::not_inspected(why));
        }
        read
    }

    /// Work that would keep others waiting, on a thread for it.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FetchError> {
        let failed = |kind, detail: &str| FetchError { kind, detail: detail.to_owned() };
        let turn = tokio::time::timeout(READING, Arc::clone(&self.verifying).acquire_owned()).await;
        let turn = turn.map_err(|_| {
            failed(FetchErrorKind::Deadline, "the provenance in the index could not be read in time")
        })?;
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| {
            failed(FetchErrorKind::Unavailable, "an internal error ended the reading of an attestation")
        })
    }
}

/// The attestation manifests that the index lists for `subject`, as its annotations say; and whether there are more than are looked at.
pub fn listed_for(root: &Root, subject: Digest) -> (Vec<Listed>, bool) {
    fn find(entries: &[IndexEntry], subject: Digest, via: &mut Vec<Digest>, found: &mut Vec<Listed>) {
        for entry in entries {
            match &entry.kind {
                EntryKind::Attestation(Some(of)) if *of == subject => {
                    found.push(Listed { digest: entry.digest, via: via.clone() });
                }
                EntryKind::Index(nested) => {
                    via.push(entry.digest);
                    find(nested, subject, via, found);
                    via.pop();
                }
                EntryKind::Attestation(_) | EntryKind::Image => {}
            }
        }
    }
    let mut found = Vec::new();
    if let Root::Index(entries) = root {
        find(entries, subject, &mut Vec::new(), &mut found);
    }
    let too_many = found.len() > MAX_HOLDERS;
    found.truncate(MAX_HOLDERS);
    (found, too_many)
}

/// The nested indexes that lead to one of these manifests, or to an attestation manifest that is listed for it.
pub fn leading_to(root: &Root, manifests: &[Digest]) -> Vec<Digest> {
    fn leads(entries: &[IndexEntry], manifests: &[Digest], found: &mut Vec<Digest>) -> bool {
        let mut some = false;
        for entry in entries {
            some |= match &entry.kind {
                EntryKind::Image => manifests.contains(&entry.digest),
                EntryKind::Attestation(of) => of.is_some_and(|of| manifests.contains(&of)),
                EntryKind::Index(nested) => {
                    let below = leads(nested, manifests, found);
                    if below && !found.contains(&entry.digest) {
                        found.push(entry.digest);
                    }
                    below
                }
            };
        }
        some
    }
    let mut found = Vec::new();
    if let Root::Index(entries) = root {
        leads(entries, manifests, &mut found);
    }
    found
}
