//! On whose account a review is read and judged: budgets keep one namespace from taking another's reviews away.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::LazyLock,
};

use super::head::Head;

/// Who sent a review, as far as it is known before its body is read. A request carries it as an extension; without one it is
/// [`Caller::Unchecked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caller {
    /// Callers are not checked here.
    #[default]
    Unchecked,
    /// An API server: what it says of namespaces is true.
    Authenticated,
    /// Callers are checked, and this one proved nothing.
    Unauthenticated,
}

/// Where a review came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sender {
    /// Who sent it.
    pub caller: Caller,
    /// From which address; `None` where there is no connection.
    pub peer: Option<IpAddr>,
}

/// An account in a pool of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    /// One namespace's, by its hash: names are as long as callers make them.
    Namespace(u64),
    /// Shared by everyone who proved nothing where callers are checked.
    Unauthenticated,
}

impl Account {
    /// The account of a review.
    pub fn of(caller: Caller, head: &Head) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match caller {
            Caller::Unchecked | Caller::Authenticated => Self::Namespace(HASHER.hash_one(&head.namespace)),
            Caller::Unauthenticated => Self::Unauthenticated,
        }
    }
}
