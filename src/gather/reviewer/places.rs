//! Where attestations of an image are looked for, and until when.

use tokio::time::Instant;

use super::{Asking, Reviewer, WITHOUT_DENIAL};
use crate::{
    domain::{plan::ImagePlan, reference::Repository},
    gather::{
        facts::Place,
        lanes::Errand,
        late::{HASTE, LateLookup},
    },
};

/// Where an image is, and where else its attestations are looked for.
pub(super) struct Places<'a> {
    pub(super) home: Place<'a>,
    pub(super) elsewhere: Vec<Place<'a>>,
    /// Until when is waited for what no policy denies anything of; `None`: as long as for the rest.
    pub(super) without_denial: Option<Instant>,
}

impl Places<'_> {
    /// The same, to be asked sooner.
    pub(super) fn until(&self, end: Instant) -> Self {
        let mut elsewhere = Vec::with_capacity(self.elsewhere.len());
        for Place { repository, errand } in &self.elsewhere {
            elsewhere.push(Place { repository, errand: errand.until(end) });
        }
        let Place { repository, errand } = &self.home;
        let home = Place { repository, errand: errand.until(end) };
        Self { home, elsewhere, without_denial: self.without_denial }
    }
}

impl Reviewer {
    /// The places where attestations are looked for, each with its own credentials.
    pub(super) async fn places<'a>(
        &self,
        asking: &Asking<'_>,
        asked: &'a ImagePlan,
        errand: &Errand,
    ) -> Places<'a> {
        let mut elsewhere = Vec::new();
        for repository in asked.attestation_repositories() {
            let errand = self.errand_elsewhere(asking, asked, errand, repository);
            elsewhere.push(Place { repository, errand: self.acting(asking, &errand, repository).await });
        }
        let home = Place { repository: asked.reference.repository(), errand: errand.clone() };
        Places { home, elsewhere, without_denial: self.without_denial(asking) }
    }

    /// Until when is waited for what no policy denies anything of, where nobody waits for more.
    pub(super) fn without_denial(&self, asking: &Asking<'_>) -> Option<Instant> {
        // Of the review's time, not of one image's: many images wait for one another.
        let is_hasty = asking.workload.is_some() && !self.is_patient;
        is_hasty.then(|| asking.begun + WITHOUT_DENIAL)
    }

    /// The errand to a repository beside the image's own. One of which no policy denies anything is not waited for as long as the image.
    fn errand_elsewhere(
        &self,
        asking: &Asking<'_>,
        asked: &ImagePlan,
        errand: &Errand,
        repository: &Repository,
    ) -> Errand {
        let (Some(workload), Some(end), false) =
            (asking.workload, self.without_denial(asking), asked.enforces_with(repository))
        else {
            return errand.clone();
        };
        let errand = errand.lenient().until(end);
        let (late, left) = (LateLookup::elsewhere(workload, repository), errand.left());
        if self.late.contains(&late, left) { errand.until(Instant::now() + HASTE) } else { errand }
    }
}
