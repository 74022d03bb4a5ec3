//! Reading a request's body: bounded in bytes, in time, and in what all bodies together hold. Bytes are reserved as they arrive, so that
//! a request that sends nothing holds nothing.

mod large;

use std::{fmt, sync::Arc, time::Duration};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use self::large::{LargeBodies, LargeBody};
use super::{
    caller::{Account, Caller, Sender},
    head::{HEAD, Head},
    pool::{Pool, Reservation, Sizes},
};

/// The largest object that the API server takes in a request (its default).
const OBJECT: usize = 3 * 1024 * 1024;
/// The most bytes that one byte of a string becomes in JSON: `<` is written as `\u003c`.
const ESCAPED: usize = 6;
/// What a review has beside its objects: who asks, and the options.
const ENVELOPE: usize = 1024 * 1024;
/// The most bytes of a review: an object, and the one that it replaces.
pub const LIMIT: usize = OBJECT * ESCAPED * 2 + ENVELOPE;
/// How long a body may take. The API server sends one that it has in memory.
pub const TIME: Duration = Duration::from_secs(2);
/// How many bytes of each body are counted with the small ones: nearly every review is that small.
const SMALL: usize = 256 * 1024;
/// What these bytes take together.
const SMALL_SIZES: Sizes =
    Sizes { total: 16 * 1024 * 1024, namespace: 4 * 1024 * 1024, unauthenticated: 1024 * 1024 };
/// By how much a buffer grows at least, and at most.
const LEAST_STEP: usize = 16 * 1024;
const LARGEST_STEP: usize = 1024 * 1024;
/// How many bytes of an answered request are still read, and for how long: an HTTP/1.1 client that is cut off while it sends need not
/// see the answer.
const UNREAD: usize = 2 * LIMIT;
const UNREAD_TIME: Duration = Duration::from_secs(5);
/// How many requests are read to their end like that at once.
const UNREAD_AT_ONCE: usize = 64;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than [`LIMIT`].
    #[error("the review is longer than {LIMIT} bytes")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the review did not arrive within {} s", TIME.as_secs())]
    TooSlow,
    /// Others take all the memory that reviews may take.
    #[error("too many reviews are being read; try again")]
    Busy,
    /// The connection broke.
    #[error("the review could not be read to its end")]
    Broken,
}

/// A body that was read.
#[derive(Debug)]
pub struct ReadBody {
    /// Its bytes.
    pub bytes: Bytes,
    /// What its first bytes tell.
    pub head: Head,
    /// On whose account it was read.
    pub account: Account,
    /// Where its bytes are counted; given back when this is dropped.
    _reserved: Reserved,
}

/// A body that was not read to its end.
pub struct UnreadBody {
    /// Why.
    pub error: BodyError,
    /// What its first bytes tell.
    pub head: Head,
    rest: Option<BodyDataStream>,
}

impl fmt::Debug for UnreadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnreadBody")
            .field("error", &self.error)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// What all bodies share.
#[derive(Debug)]
pub struct Bodies {
    small: Arc<Pool>,
    large: Arc<LargeBodies>,
    unread: Arc<tokio::sync::Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            small: Pool::new(SMALL_SIZES),
            large: Arc::default(),
            unread: Arc::new(tokio::sync::Semaphore::new(UNREAD_AT_ONCE)),
        }
    }
}

impl Bodies {
    /// How many bytes are reserved: of the first `SMALL` bytes of each body, and of all that follow.
    pub fn used(&self) -> [(&'static str, usize); 2] {
        [("bodies", self.small.used()), ("large_bodies", self.large.used())]
    }

    /// Reads a body; `stated` is its length, where the request says it. A body gives way to those of others that hold less.
    ///
    /// # Errors
    /// See [`BodyError`]. What was read of the head is there all the same.
    pub async fn read(
        &self,
        body: Body,
        stated: Option<u64>,
        sender: Sender,
        deadline: Instant,
    ) -> Result<ReadBody, UnreadBody> {
        let until = deadline.min(Instant::now() + TIME);
        let small = self.small.open(sender.peer);
        if sender.caller == Caller::Unauthenticated {
            // Whose it is need not be read first.
            small.assign(Account::Unauthenticated);
        }
        let evicted = small.evicted();
        let reserved = Reserved { small, smalls: 0, large: None, shared: Arc::clone(&self.large) };
        let mut reading = Reading {
            sender,
            until,
            reserved,
            bytes: Vec::new(),
            first: Vec::new(),
            account: None,
            head: Head::default(),
        };
        let mut pieces = body.into_data_stream();
        let read = tokio::select! {
            biased;
            read = reading.all(&mut pieces, stated) => read,
            () = evicted => Err(BodyError::Busy),
        };
        match read {
            Ok(bytes) => {
                let Reading { sender, reserved, account, head, .. } = reading;
                reserved.small.settle();
                let account = account.unwrap_or_else(|| Account::of(sender.caller, &head));
                Ok(ReadBody { bytes, head, account, _reserved: reserved })
            }
            Err(error) => {
                let first = std::mem::take(&mut reading.first);
                reading.meet(&first);
                let head = reading.head;
                let rest = (error != BodyError::Broken).then_some(pieces);
                Err(UnreadBody { error, head, rest })
            }
        }
    }

    /// Reads what is left of a request that was answered, and lets go of it.
    pub fn discard(&self, unread: UnreadBody) {
        let Some(mut rest) = unread.rest else { return };
        let Ok(permit) = Arc::clone(&self.unread).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let mut left = UNREAD;
            let reading = async {
                while let Some(Ok(piece)) = rest.next().await {
                    left = left.saturating_sub(piece.len());
                    if left == 0 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(UNREAD_TIME, reading).await;
            drop(permit);
        });
    }
}

/// Where the bytes of a body are counted.
#[derive(Debug)]
struct Reserved {
    small: Reservation,
    /// How many bytes these are.
    smalls: usize,
    large: Option<LargeBody>,
    shared: Arc<LargeBodies>,
}

impl Reserved {
    /// So many more bytes.
    async fn grow(
        &mut self,
        more: usize,
        sender: Sender,
        account: Option<Account>,
        until: Instant,
    ) -> Result<(), BodyError> {
        let small = more.min(SMALL.saturating_sub(self.smalls));
        if small > 0 {
            self.small.grow(small, until).await.map_err(|_| BodyError::Busy)?;
            self.smalls = self.smalls.saturating_add(small);
        }
        let large = more.saturating_sub(small);
        if large > 0 {
            let body = self.large.get_or_insert_with(|| self.shared.open(sender.peer, account));
            body.grow(large, until).await.map_err(|_| BodyError::Busy)?;
        }
        Ok(())
    }
}

/// A body on its way.
struct Reading {
    sender: Sender,
    until: Instant,
    reserved: Reserved,
    bytes: Vec<u8>,
    /// The first bytes, also where there is no room for them among the others.
    first: Vec<u8>,
    /// Known when the head is.
    account: Option<Account>,
    head: Head,
}

impl Reading {
    async fn all(&mut self, pieces: &mut BodyDataStream, stated: Option<u64>) -> Result<Bytes, BodyError> {
        let stated = stated.map(|stated| usize::try_from(stated).unwrap_or(usize::MAX));
        let is_too_long = stated.is_some_and(|stated| stated > LIMIT);
        while let Some(piece) = timeout_at(self.until, pieces.next()).await.map_err(|_| BodyError::TooSlow)? {
            let piece = piece.map_err(|_| BodyError::Broken)?;
            if stated == Some(piece.len()) && self.first.is_empty() && !is_too_long {
                // Nearly every review comes in one piece, which is not copied.
                self.meet(&piece);
                self.reserved.grow(piece.len(), self.sender, self.account, self.until).await?;
                return Ok(piece);
            }
            self.note(&piece);
            let is_known = self.account.is_some();
            // Of a body that is too long as much is read as tells its head.
            if is_too_long && !is_known {
                continue;
            }
            if is_too_long || self.bytes.len().saturating_add(piece.len()) > LIMIT {
                return Err(BodyError::TooLarge);
            }
            self.put(&piece, stated).await?;
        }
        let first = std::mem::take(&mut self.first);
        self.meet(&first);
        if is_too_long { Err(BodyError::TooLarge) } else { Ok(std::mem::take(&mut self.bytes).into()) }
    }

    /// Keeps the first bytes, and knows the head once they are there.
    fn note(&mut self, piece: &[u8]) {
        if self.account.is_some() {
            return;
        }
        let missing = HEAD.saturating_sub(self.first.len());
        self.first.extend_from_slice(piece.get(..missing).unwrap_or(piece));
        if self.first.len() >= HEAD {
            let first = std::mem::take(&mut self.first);
            self.meet(&first);
            self.first = first;
        }
    }

    /// Knows the head from now on.
    fn meet(&mut self, bytes: &[u8]) {
        if self.account.is_none() {
            self.head = Head::read(bytes);
            let account = Account::of(self.sender.caller, &self.head);
            self.reserved.small.assign(account);
            self.account = Some(account);
        }
    }

    /// Reserves room for a piece, and then keeps it.
    async fn put(&mut self, piece: &[u8], stated: Option<usize>) -> Result<(), BodyError> {
        let length = self.bytes.len().saturating_add(piece.len());
        let capacity = self.bytes.capacity();
        if length > capacity {
            // The buffer grows by a part of its length. It is copied a few times in all, or not at all where the system moves pages.
            let step = (self.bytes.len() / 4).clamp(LEAST_STEP, LARGEST_STEP);
            let wanted = capacity.saturating_add(step).min(stated.unwrap_or(LIMIT)).max(length);
            self.reserved
                .grow(wanted.saturating_sub(capacity), self.sender, self.account, self.until)
                .await?;
            self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b3_what_unknown_callers_begin_to_send_counts_as_theirs() {
        let bodies = Bodies::default();
        let sender = |caller| Sender { caller, peer: None };
        let begin = |caller| {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
            let body = Body::from_stream(first.chain(stream::pending()));
            bodies.read(body, None, sender(caller), Instant::now() + TIME)
        };
        let most = |caller| {
            let all = futures::future::join_all((0..200).map(|_| begin(caller)));
            let looking = async {
                tokio::time::sleep(TIME / 2).await;
                bodies.used()[0].1
            };
            async { tokio::join!(all, looking).1 }
        };
        assert!(most(Caller::Unauthenticated).await <= SMALL_SIZES.unauthenticated);
        assert!(most(Caller::Authenticated).await > SMALL_SIZES.unauthenticated);
    }
}
