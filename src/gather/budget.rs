//! How much is read for one digest: of bytes, as the room allows, and of attestations.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::lanes::Room;

/// The largest attestation.
const MAX_ATTESTATION: usize = 16 << 20;
/// How many attestations of one digest are looked at.
const MAX_ATTESTATIONS: usize = 256;
/// One more than are looked at, so that what is left out is told.
pub const LISTED: usize = MAX_ATTESTATIONS + 1;

/// What may still be read for one digest.
pub struct Budget {
    room: Room,
    bytes: AtomicUsize,
    attestations: AtomicUsize,
    short: AtomicBool,
}

impl Budget {
    /// Nothing is read yet.
    pub const fn new(room: Room) -> Self {
        Self {
            room,
            bytes: AtomicUsize::new(room.bytes),
            attestations: AtomicUsize::new(MAX_ATTESTATIONS),
            short: AtomicBool::new(false),
        }
    }

    /// Takes `size` bytes, or says why they are not read.
    ///
    /// # Errors
    /// Where there is no room for them.
    pub fn take(&self, size: usize) -> Result<(), String> {
        if take(&self.bytes, size) {
            return Ok(());
        }
        self.short.store(true, Ordering::Relaxed);
        Err(format!("it is too large: {size} bytes; {} for all are read", self.room.bytes))
    }

    /// Takes one attestation of `size` bytes, or says why it is not looked at.
    ///
    /// # Errors
    /// Where it is too large, or one too many.
    pub fn take_attestation(&self, size: usize) -> Result<(), String> {
        if size > MAX_ATTESTATION {
            return Err(format!("it is too large: {size} bytes; {MAX_ATTESTATION} for one are read"));
        }
        self.take(size)?;
        if take(&self.attestations, 1) {
            return Ok(());
        }
        Err(format!(
            "more than {MAX_ATTESTATIONS} attestations are attached, and the others are not looked at"
        ))
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
