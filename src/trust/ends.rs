//! When the parts of a trust root stop vouching for new signatures.

use jiff::{SignedDuration, Timestamp};
use sigstore_trust_root::{TimeRange, TrustedRoot};
use sigstore_types::DerCertificate;

use super::{
    certificate::{self, Validity},
    refusal::{Refusal, quoted},
};

/// How long before a part ends it is told.
const NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A part of a trust root that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    part: Part,
    /// The certificate or log.
    name: String,
    pub(super) at: Timestamp,
}

/// The kinds of parts. A root needs each kind that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    CertificateAuthority,
    TimestampAuthority,
    Log,
    CtLog,
}

impl Part {
    const ALL: [Self; 4] = [Self::CertificateAuthority, Self::TimestampAuthority, Self::Log, Self::CtLog];

    const fn name(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate authority",
            Self::TimestampAuthority => "timestamp authority",
            Self::Log => "transparency log",
            Self::CtLog => "certificate-transparency log",
        }
    }
}

/// When each part of a root ends, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ends {
    ends: Vec<End>,
    /// The kinds of which one has no known end.
    open: Vec<&'static str>,
}

impl Ends {
    pub(super) fn of(root: &TrustedRoot) -> Result<Self, Refusal> {
        let mut ends = Self::default();
        for authority in &root.certificate_authorities {
            let chain = authority.cert_chain.certificates.iter().map(|entry| &entry.raw_bytes);
            ends.authority(Part::CertificateAuthority, chain, authority.valid_for)?;
        }
        for authority in &root.timestamp_authorities {
            let chain = authority.cert_chain.certificates.iter().map(|entry| &entry.raw_bytes);
            ends.authority(Part::TimestampAuthority, chain, authority.valid_for)?;
        }
        for log in &root.tlogs {
            ends.log(Part::Log, &log.base_url, log.public_key.valid_for);
        }
        for log in &root.ctlogs {
            ends.log(Part::CtLog, &log.base_url, log.public_key.valid_for);
        }
        Ok(ends)
    }

    fn log(&mut self, part: Part, url: &str, window: Option<TimeRange>) {
        match window.and_then(|window| window.end) {
            Some(at) => self.ends.push(End { part, name: quoted(url), at }),
            None => self.open.push(part.name()),
        }
    }

    /// An authority ends with its window or with the first of its certificates.
    fn authority<'a>(
        &mut self,
        part: Part,
        chain: impl Iterator<Item = &'a DerCertificate>,
        window: Option<TimeRange>,
    ) -> Result<(), Refusal> {
        let mut first: Option<End> = None;
        for der in chain {
            let parsed = certificate::parse(der.as_bytes())?;
            let name = quoted(&parsed.tbs_certificate().subject().to_string());
            let end = End { part, name, at: Validity::of(&parsed)?.not_after };
            first = match first {
                Some(known) if known.at <= end.at => Some(known),
                _ => Some(end),
            };
        }
        let window_ends = window.and_then(|window| window.end);
        self.ends.extend(first.map(|end| End { at: window_ends.map_or(end.at, |at| at.min(end.at)), ..end }));
        Ok(())
    }

    /// When the last part of a kind has ended, for the kind of which that is first.
    pub(super) fn last(&self) -> Option<Timestamp> {
        Part::ALL.into_iter().filter_map(|part| self.last_of(part)).min()
    }

    fn last_of(&self, part: Part) -> Option<Timestamp> {
        let is_open = self.open.contains(&part.name());
        self.ends.iter().filter(|end| end.part == part && !is_open).map(|end| end.at).max()
    }

    /// What there is to say of what has ended or will soon, for whoever keeps the root.
    pub(super) fn warnings(&self, now: Timestamp) -> Vec<String> {
        let soon = now.checked_add(NOTICE).unwrap_or(Timestamp::MAX);
        let mut all = Vec::new();
        for part in Part::ALL {
            let what = part.name();
            match self.last_of(part) {
                Some(at) if at < now => {
                    all.push(format!(
                        "its last {what} ended at {at}: nothing that was signed since then verifies under it"
                    ));
                    continue;
                }
                _ => {}
            }
            let ending = self.ends.iter().filter(|end| end.part == part && end.at >= now && end.at <= soon);
            all.extend(ending.map(|End { name, at, .. }| {
                format!("its {what} {name} ends at {at}: what is signed with it later does not verify; add the next one before")
            }));
        }
        all
    }
}
