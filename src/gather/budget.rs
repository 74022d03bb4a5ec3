//! How much is read for one digest: of bytes, as the room allows, and of attestations.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::lanes::Room;
use crate::domain::evidence::Layout;

/// The largest attestation.
const MAX_ATTESTATION: usize = 16 << 20;
/// How many attestations of one digest are inspected, in each of: its referrers, its `.att` tag.
const MAX_ATTESTATIONS: usize = 256;
/// One more than are inspected, so that what is left out is told.
pub const LISTED: usize = MAX_ATTESTATIONS + 1;

/// What may still be read for one digest.
pub struct Budget {
    room: Room,
    bytes: AtomicUsize,
    bundles: AtomicUsize,
    layers: AtomicUsize,
    short: AtomicBool,
}

/// Why something is not read.
#[derive(Debug)]
pub enum Unread {
    /// It is too large by itself.
    TooLarge(String),
    /// Others were read before it.
    NotReached(String),
}

impl Budget {
    /// Nothing is read yet.
    pub const fn new(room: Room) -> Self {
        Self {
            room,
            bytes: AtomicUsize::new(room.bytes),
            bundles: AtomicUsize::new(MAX_ATTESTATIONS),
            layers: AtomicUsize::new(MAX_ATTESTATIONS),
            short: AtomicBool::new(false),
        }
    }

    /// Takes `size` bytes, or says why they are not read.
    ///
    /// # Errors
    /// Where there is no room for them.
    pub fn take(&self, size: usize) -> Result<(), Unread> {
        if take(&self.bytes, size) {
            return Ok(());
        }
        self.short.store(true, Ordering::Relaxed);
        let most = self.room.bytes;
        Err(if size > most {
            Unread::TooLarge(format!("it is too large: {size} bytes; {most} for all are read"))
        } else {
            Unread::NotReached(format!("they are larger than the {most} bytes that are read"))
        })
    }

    /// Takes one attestation of `size` bytes, or says why it is not inspected.
    ///
    /// # Errors
    /// Where it is too large, or one too many.
    pub fn take_attestation(&self, layout: Layout, size: usize) -> Result<(), Unread> {
        if size > MAX_ATTESTATION {
            let why = format!("it is too large: {size} bytes; {MAX_ATTESTATION} for one are read");
            return Err(Unread::TooLarge(why));
        }
        let left = if layout == Layout::AttTag { &self.layers } else { &self.bundles };
        if !take(left, 1) {
            return Err(Unread::NotReached(format!("more than {MAX_ATTESTATIONS} are attached")));
        }
        self.take(size)
    }

    /// Whether a larger room would have shown more.
    pub fn wants_more(&self) -> bool {
        !self.room.is_largest && self.short.load(Ordering::Relaxed)
    }

    /// How many bytes were taken.
    pub fn used(&self) -> usize {
        self.room.bytes.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }
}

fn take(left: &AtomicUsize, amount: usize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_ok()
}
