//! Asking for the referrers of a digest: by the API, page by page, else by the tag that stands in for it.

use reqwest::StatusCode;

use super::{
    client::{Client, MAX_MANIFEST, ask},
    referrers,
    transport::Failure,
};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::Repository,
    },
    gather::ports::Referrer,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Client {
    /// Every referrer of a digest. Where it is certain that there is no API the tag is asked for first, to save a round; the API has the
    /// last word all the same where there is no such tag.
    pub(super) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, FetchError> {
        let tag_first = self.lacking.is_certain(repository);
        if !tag_first && let Some(listed) = self.ask_referrers_api(repository, subject).await? {
            return Ok(listed);
        }
        match self.ask_fallback_tag(repository, subject).await? {
            Some(listed) => Ok(listed),
            None if tag_first => Ok(self.ask_referrers_api(repository, subject).await?.unwrap_or_default()),
            None => Ok(Vec::new()),
        }
    }

    async fn ask_fallback_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, FetchError> {
        let tag = format!("{}-{}", subject.algorithm(), subject.hex());
        let Some(manifest) = self.fetch_tagged(repository, &tag).await? else { return Ok(None) };
        // Whoever may push may put anything there; what it hides is not known.
        let listed = referrers::parse(&manifest.bytes).ok_or_else(|| FetchError {
            kind: FetchErrorKind::Malformed,
            detail: format!("what is under the tag {tag} of {repository} is no list of referrers"),
        })?;
        let mut all = Vec::new();
        referrers::add(&mut all, listed, &what(repository, subject))?;
        Ok(Some(all))
    }

    /// The referrers by the API; `None` where the registry has none.
    async fn ask_referrers_api(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, FetchError> {
        let (what, asked) =
            (what(repository, subject), format!("the referrers of {subject} in {}", repository.path()));
        let first = self.url(repository, &format!("referrers/{subject}"))?;
        let (mut all, mut url) = (Vec::new(), first.clone());
        for page in 0..referrers::MAX_PAGES {
            let mut ask = ask(repository, url.clone(), INDEX, &asked);
            let read = match self.exchange(repository, &mut ask, MAX_MANIFEST, None).await {
                Ok(read) => read,
                // Some registries lead unknown paths to a web page elsewhere.
                Err(Failure::Redirect(_)) if page == 0 => return Ok(None),
                Err(failure) => return Err(failure.into()),
            };
            let lacking = matches!(
                read.status,
                StatusCode::NOT_FOUND
                    | StatusCode::BAD_REQUEST
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_ACCEPTABLE
            );
            if page == 0 && lacking {
                self.lacking.unanswered(repository, subject);
                return Ok(None);
            }
            let (next, stated) =
                (referrers::next_page(&read.url, &first, &read.headers, &what), read.content_type());
            let body = read.body.map_err(|failure| {
                // A page that was promised and is gone leaves the list unknown.
                let is_gone = failure.kind == FetchErrorKind::NotFound;
                FetchError {
                    kind: if is_gone { FetchErrorKind::Unavailable } else { failure.kind },
                    ..failure
                }
            })?;
            match referrers::parse(&body) {
                Some(listed) => referrers::add(&mut all, listed, &what)?,
                // A page of another kind is the lack of the API; a list that is broken is not, and says nothing of what there is.
                None if page == 0 && stated.as_deref() != Some(INDEX) => {
                    self.lacking.unanswered(repository, subject);
                    return Ok(None);
                }
                None => {
                    let detail = format!("{what}: a page is no list");
                    return Err(FetchError { kind: FetchErrorKind::Unavailable, detail });
                }
            }
            let Some(next) = next? else {
                self.lacking.answered(repository);
                return Ok(Some(all));
            };
            url = next;
        }
        Err(referrers::too_many(&what))
    }
}

/// For what is wrong with a list as a whole.
fn what(repository: &Repository, subject: &Digest) -> String {
    format!("the referrers of {subject} in {repository}")
}
