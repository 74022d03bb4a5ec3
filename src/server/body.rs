//! Reading a request's body: bounded in bytes, in time, and in what all requests together may hold.

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use futures::StreamExt as _;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// The most that a review may be long: an object of 3 MiB, which is etcd's and the API server's limit, and the one it replaces, with room for escapes.
pub const LIMIT: usize = 8 * 1024 * 1024;
/// What is small: nearly every review.
const SMALL: usize = 512 * 1024;
/// What all small reviews being answered may hold together, and all others.
const TOTAL: usize = 64 * 1024 * 1024;
/// What even the smallest counts for; with the total it bounds how many are answered at once.
const LEAST: usize = 64 * 1024;
/// The unit that the semaphore counts in.
const UNIT: usize = 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than [`LIMIT`].
    #[error("the body is longer than {LIMIT} bytes")]
    TooLarge,
    /// It did not come in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Too many others are being answered.
    #[error("too many reviews are being answered")]
    Busy,
    /// The connection broke.
    #[error("the body could not be read to its end")]
    Broken,
}

/// The room that bodies share. Small ones, which the API server's nearly all are, do not queue behind large ones, nor behind those that
/// do not say how long they are.
#[derive(Debug)]
pub struct Room {
    small: Semaphore,
    large: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        let room = || Semaphore::new(TOTAL / UNIT);
        Self { small: room(), large: room() }
    }
}

impl Room {
    /// Reads a body; its room is taken until the permit is dropped.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn read(
        &self,
        body: Body,
        stated: Option<u64>,
        deadline: Instant,
    ) -> Result<(Bytes, SemaphorePermit<'_>), BodyError> {
        let expected = match stated {
            Some(length) => usize::try_from(length).ok().filter(|length| *length <= LIMIT),
            None => Some(LIMIT),
        }
        .ok_or(BodyError::TooLarge)?;
        let weight = u32::try_from(expected.max(LEAST) / UNIT).unwrap_or(u32::MAX);
        let room = if expected <= SMALL { &self.small } else { &self.large };
        let permit = match room.try_acquire_many(weight) {
            Ok(permit) => permit,
            Err(_) => timeout_at(deadline, room.acquire_many(weight))
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or(BodyError::Busy)?,
        };
        let bytes = timeout_at(deadline, collect(body, expected)).await.map_err(|_| BodyError::TooSlow)??;
        Ok((bytes, permit))
    }
}

/// Nearly every review comes in one piece, which is then not copied.
async fn collect(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut pieces = body.into_data_stream();
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| BodyError::Broken)?;
        if first.len().saturating_add(joined.len()).saturating_add(piece.len()) > limit {
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && joined.is_empty() {
            first = piece;
            continue;
        }
        if !first.is_empty() {
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&piece);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}
