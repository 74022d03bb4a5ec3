//! What the leader does about the Secret as it is: a pure function of what was read, of what this process knows to be good, and of the
//! time.
//!
//! A new authority is first announced, which is to say trusted and nothing more. It signs only once every API server has had the time
//! to learn of it; the one before stays in the bundle until its last certificate has ended. So at no time does anybody meet a certificate
//! of an authority that he does not know yet.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Lifetimes,
    authority::{Fault, Parsed},
    content::{
        AUTHORITIES, AUTHORITY_KEY, Content, NEXT_KEY, Names, PREVIOUS, Serving, Signer, is_signed_by,
    },
    issue::{BACKDATED, Maker, later},
};

/// What is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The Secret; `None` where there is none.
    pub(super) seen: Option<&'a Content>,
    /// The last content that was whole, where this process has seen one.
    pub(super) kept: Option<&'a Content>,
    /// Whether every API server trusts the whole bundle that was seen, and had the time to notice.
    pub(super) is_trusted: bool,
    pub(super) names: &'a Names,
    pub(super) lifetimes: Lifetimes,
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Everything is as it should be, or will be by waiting.
    Nothing,
    /// Make everything anew: nothing is left that could be used.
    Begin(Cause),
    /// Write back what was good.
    Restore(Cause),
    /// Write back what was good, and begin with a new authority: whoever removes the Secret wants another one.
    Replace,
    /// A new serving certificate of the same authority.
    Certify(Cause, Box<Signer>),
    /// A new authority, trusted only.
    Announce(Cause),
    /// The announced authority signs.
    Promote(Cause, Box<Signer>),
    /// Trust these authorities only.
    Forget(Vec<Parsed>),
}

/// Why something is done; for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    #[error("there is no Secret")]
    NoSecret,
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("its time is nearly over")]
    Due,
    #[error("the certificate lacks a name")]
    Names,
    #[error("the announced authority is trusted by now")]
    Trusted,
}

/// What to do about the Secret.
pub(super) fn decide(view: &View<'_>) -> Action {
    let Some(seen) = view.seen else {
        let is_good = view.kept.is_some_and(|kept| is_usable(kept, view.now));
        return if is_good { Action::Replace } else { Action::Begin(Cause::NoSecret) };
    };
    match seen.serving(view.names, view.now) {
        Ok(serving) => maintain(view, seen, &serving),
        Err(fault) => repair(view, seen, fault),
    }
}

/// Nothing can be served with what is there.
fn repair(view: &View<'_>, seen: &Content, fault: Fault) -> Action {
    if is_better(view, seen) {
        return Action::Restore(fault.into());
    }
    if let Ok(signer) = seen.signer(AUTHORITY_KEY, view.now) {
        return Action::Certify(fault.into(), Box::new(signer));
    }
    match seen.signer(NEXT_KEY, view.now) {
        Ok(next) => Action::Promote(fault.into(), Box::new(next)),
        Err(_) => Action::Begin(fault.into()),
    }
}

/// Whether what this process knows can be served with, if need be after it was renewed, and is not what was seen.
fn is_better(view: &View<'_>, seen: &Content) -> bool {
    view.kept.is_some_and(|kept| kept != seen && is_usable(kept, view.now))
}

fn is_usable(content: &Content, now: Timestamp) -> bool {
    content.signer(AUTHORITY_KEY, now).is_ok()
}

/// Whether a content can be served with, and signed with.
pub(super) fn is_whole(content: &Content, names: &Names, now: Timestamp) -> bool {
    content.serving(names, now).is_ok() && content.signer(AUTHORITY_KEY, now).is_ok()
}

/// It can be served with; what has to be done so that it stays so?
fn maintain(view: &View<'_>, seen: &Content, serving: &Serving) -> Action {
    let signer = seen.signer(AUTHORITY_KEY, view.now);
    match (seen.signer(NEXT_KEY, view.now), &signer) {
        (Ok(next), _) if view.is_trusted => return Action::Promote(Cause::Trusted, Box::new(next)),
        // It is announced; its time comes.
        (Ok(_), _) => {}
        (Err(_), Err(fault)) if is_better(view, seen) => return Action::Restore(fault.clone().into()),
        (Err(_), Err(fault)) => return Action::Announce(fault.clone().into()),
        (Err(_), Ok(signer)) => {
            if is_due(&signer.authority, view.lifetimes.authority, view.now) {
                return Action::Announce(Cause::Due);
            }
        }
    }
    if let Ok(signer) = signer {
        if !serving.has_every_name {
            return Action::Certify(Cause::Names, Box::new(signer));
        }
        let gains = signer.authority.not_after > serving.leaf.not_after;
        if gains && is_due(&serving.leaf, view.lifetimes.certificate, view.now) {
            return Action::Certify(Cause::Due, Box::new(signer));
        }
    }
    forget(view, seen, serving)
}

/// Whether two thirds of a certificate's life are over: of the life that it was given, or of the one that it would be given today.
fn is_due(certificate: &Parsed, lifetime: Duration, now: Timestamp) -> bool {
    let begin = later(certificate.not_before, BACKDATED);
    let given = Duration::try_from(certificate.not_after.duration_since(begin)).unwrap_or_default();
    now >= later(begin, given.min(lifetime) * 2 / 3)
}

/// Drops authorities that signed nothing that may still be served, and will not sign.
fn forget(view: &View<'_>, seen: &Content, serving: &Serving) -> Action {
    let previous = Parsed::all(PREVIOUS, seen.get(PREVIOUS)).unwrap_or_default();
    let signing: Vec<Parsed> = [AUTHORITY_KEY, NEXT_KEY]
        .into_iter()
        .filter_map(|key| seen.signer(key, view.now).ok())
        .map(|signer| signer.authority)
        .collect();
    let is_needed = |one: &Parsed| {
        *one == serving.signer
            || signing.contains(one)
            || previous.iter().any(|leaf| is_signed_by(leaf, one, view.now))
    };
    let kept: Vec<Parsed> = serving.authorities.iter().filter(|one| is_needed(one)).cloned().collect();
    // Those whose time is over are in the value still, if not in `serving`.
    let there = Parsed::all(AUTHORITIES, seen.get(AUTHORITIES)).map_or(0, |all| all.len());
    if kept.len() < there { Action::Forget(kept) } else { Action::Nothing }
}

/// The content after an action; `None` where nothing is to be written.
pub(super) fn perform(view: &View<'_>, action: &Action) -> Result<Option<Content>, rcgen::Error> {
    let maker = Maker { names: view.names, lifetimes: view.lifetimes, now: view.now };
    let seen = view.seen.cloned().unwrap_or_default();
    let content = match action {
        Action::Nothing => return Ok(None),
        Action::Begin(_) => maker.begin()?,
        Action::Restore(_) => restored(view, maker)?,
        Action::Replace => {
            let kept = restored(view, maker)?;
            if kept.signer(NEXT_KEY, view.now).is_ok() { kept } else { maker.announce(&kept)? }
        }
        Action::Certify(_, signer) => maker.certify(&seen, signer)?,
        Action::Announce(_) => maker.announce(&seen)?,
        Action::Promote(_, next) => maker.promote(&seen, next)?,
        Action::Forget(kept) => maker.forget(&seen, kept),
    };
    Ok(Some(content))
}

/// What was good, with a new certificate where the time of the one that was in it is over.
fn restored(view: &View<'_>, maker: Maker<'_>) -> Result<Content, rcgen::Error> {
    let kept = view.kept.cloned().unwrap_or_default();
    match kept.signer(AUTHORITY_KEY, view.now) {
        Ok(signer) if kept.serving(view.names, view.now).is_err() => maker.certify(&kept, &signer),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests;
