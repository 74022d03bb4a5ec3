//! The transparency logs: Merkle trees (RFC 6962) that grow with each signature, with inclusion proofs and
//! checkpoints (signed notes). Rekor v1 signs entry and time too; Rekor v2 has an Ed25519 key and signs
//! checkpoints alone.

use jiff::Timestamp;
use parking_lot::Mutex;

use super::keys::{Key, KeyKind, base64, sha256};

/// Rekor's tree is a shard: an entry's index in the whole log and in its tree differ, so that code
/// which takes one for the other is found out.
const EARLIER_SHARDS: u64 = 121_904_262;

/// The tree is never empty, so that a proof has hashes to check.
const OLDER_ENTRIES: u64 = 11;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) key: Key,
    pub(super) host: String,
    is_v2: bool,
    leaves: Mutex<Vec<[u8; 32]>>,
}

/// Where an entry is in the tree.
#[derive(Clone, Debug)]
pub(super) struct Inclusion {
    pub(super) log_index: u64,
    pub(super) tree_index: u64,
    pub(super) tree_size: u64,
    pub(super) root: [u8; 32],
    pub(super) hashes: Vec<[u8; 32]>,
}

impl Log {
    /// A log of Rekor v1.
    pub(super) fn new(host: &str) -> Self {
        Self::with(host, KeyKind::P256, false)
    }

    /// A log of Rekor v2.
    pub(super) fn v2(host: &str) -> Self {
        Self::with(host, KeyKind::Ed25519, true)
    }

    fn with(host: &str, kind: KeyKind, is_v2: bool) -> Self {
        let leaves = (0..OLDER_ENTRIES).map(|index| leaf_hash(&index.to_be_bytes())).collect();
        Self { key: Key::generate(kind), host: host.to_owned(), is_v2, leaves: Mutex::new(leaves) }
    }

    /// What the log is known by: v1, the hash of its key; v2, that of a signed note's key (C2SP), whose first
    /// bytes stand in the note.
    pub(super) fn id(&self) -> [u8; 32] {
        if self.is_v2 {
            sha256(&[self.host.as_bytes(), b"\n\x01", self.key.point()].concat())
        } else {
            self.key.id()
        }
    }

    /// Add an entry, and prove that it is in.
    pub(super) fn append(&self, body: &[u8]) -> Inclusion {
        let mut leaves = self.leaves.lock();
        leaves.push(leaf_hash(body));
        let index = leaves.len() - 1;
        let tree_index = u64::try_from(index).unwrap();
        Inclusion {
            log_index: if self.is_v2 { tree_index } else { EARLIER_SHARDS + tree_index },
            tree_index,
            tree_size: tree_index + 1,
            root: tree_hash(&leaves),
            hashes: path(index, &leaves),
        }
    }

    /// The name of the tree in its checkpoints.
    pub(super) fn origin(&self) -> String {
        if self.is_v2 { self.host.clone() } else { format!("{} - 2605736670972794746", self.host) }
    }
}

/// What a signed entry timestamp covers: `{body, integratedTime, logID, logIndex}` in canonical JSON.
pub(super) fn set_payload(body: &[u8], integrated: Timestamp, log_id: &[u8], log_index: u64) -> String {
    format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{log_index}}}"#,
        base64(body),
        integrated.as_second(),
        hex::encode(log_id),
    )
}

/// A signed note over a tree head. `hint` is the identifier of the key that the note names.
pub(super) fn checkpoint(log: &Log, size: u64, root: &[u8; 32], key: &Key, hint: [u8; 32]) -> String {
    let text = format!("{}\n{size}\n{}\n", log.origin(), base64(root));
    let signature = [&hint[..4], &key.sign(text.as_bytes())].concat();
    format!("{text}\n\u{2014} {} {}\n", log.host, base64(&signature))
}

fn leaf_hash(body: &[u8]) -> [u8; 32] {
    sha256(&[&[0], body].concat())
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left.as_slice(), right].concat())
}

/// The largest power of two below the number of leaves.
fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

fn tree_hash(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&tree_hash(left), &tree_hash(right))
        }
    }
}

fn path(index: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut hashes, sibling) = if index < middle {
        (path(index, left), tree_hash(right))
    } else {
        (path(index - middle, right), tree_hash(left))
    };
    hashes.push(sibling);
    hashes
}
