//! Asking for the referrers of a digest: by the API, page by page, else by the tag that stands in for it.

use reqwest::StatusCode;

use super::{
    client::{Client, MAX_MANIFEST, ask},
    referrers::{self, Next, Ranking},
    transport::Failure,
};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::Repository,
    },
    gather::ports::ReferrerList,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What the API says.
enum Listed {
    /// As far as it says it.
    Here(ReferrerList),
    /// The registry has no such API.
    NoApi,
}

impl Client {
    /// The referrers of a digest. Where it is certain that there is no API the tag is requested first, to save a round; the API has the
    /// last word all the same where there is no such tag. Where the API fails the tag may have what it does not say; why it failed stays
    /// an open question then.
    pub(super) async fn find_referrers(&self, repository: &Repository, subject: &Digest) -> ReferrerList {
        let tag_first = self.lacking.is_certain(repository);
        let mut list = ReferrerList::default();
        if !tag_first {
            match self.list_by_api(repository, subject).await {
                Listed::Here(listed) if listed.unlisted.is_empty() => return listed,
                Listed::Here(listed) => list = listed,
                Listed::NoApi => {}
            }
        }
        match self.list_by_tag(repository, subject).await {
            Ok(Some(listed)) => add(&mut list, listed),
            Ok(None) if tag_first => {
                if let Listed::Here(listed) = self.list_by_api(repository, subject).await {
                    add(&mut list, listed);
                }
            }
            Ok(None) => {}
            Err(error) => list.unlisted.push(error),
        }
        list
    }

    async fn list_by_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<ReferrerList>, FetchError> {
        let tag = format!("{}-{}", subject.algorithm(), subject.hex());
        let Some(manifest) = self.fetch_tagged(repository, &tag).await? else { return Ok(None) };
        let mut all = Ranking::default();
        // Whoever may push may put anything there; what it hides is not known.
        referrers::read(&manifest.bytes, &mut all).ok_or_else(|| FetchError {
            kind: FetchErrorKind::Malformed,
            detail: format!("what is under the tag {tag} of {repository} is no list of referrers"),
        })?;
        Ok(Some(all.finish(&what(repository, subject))))
    }

    /// The referrers by the API, as far as it lists them.
    async fn list_by_api(&self, repository: &Repository, subject: &Digest) -> Listed {
        let what = what(repository, subject);
        let mut all = Ranking::default();
        match self.read_pages(repository, subject, &what, &mut all).await {
            Ok(Pages::NoApi) => Listed::NoApi,
            Ok(Pages::All) => {
                self.lacking.answered(repository);
                Listed::Here(all.finish(&what))
            }
            Ok(Pages::Some(why)) => {
                let mut list = all.finish(&what);
                list.unlisted.push(FetchError::not_inspected(format!("{what} {why}")));
                Listed::Here(list)
            }
            Err(error) => {
                let mut list = all.finish(&what);
                list.unlisted.push(error);
                Listed::Here(list)
            }
        }
    }

    async fn read_pages(
        &self,
        repository: &Repository,
        subject: &Digest,
        what: &str,
        all: &mut Ranking,
    ) -> Result<Pages, FetchError> {
        let asked = format!("the referrers of {subject} in {}", repository.path());
        let first = self.url(repository, &format!("referrers/{subject}"))?;
        let mut url = first.clone();
        for page in 0..referrers::MAX_PAGES {
            let mut ask = ask(repository, url.clone(), INDEX, &asked);
            let read = match self.exchange(repository, &mut ask, MAX_MANIFEST, None).await {
                Ok(read) => read,
                // Some registries lead unknown paths to a web page elsewhere.
                Err(Failure::Redirect(_)) if page == 0 => return Ok(Pages::NoApi),
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
                return Ok(Pages::NoApi);
            }
            let (next, stated) = (referrers::next_page(&url, &first, &read.headers), read.content_type());
            // A page that cannot be read leaves the list unknown.
            let body = read.body.map_err(|failure| FetchError {
                kind: match failure.kind {
                    FetchErrorKind::NotFound => FetchErrorKind::Unavailable,
                    FetchErrorKind::Malformed => FetchErrorKind::Incomplete,
                    kind => kind,
                },
                ..failure
            })?;
            match referrers::read(&body, all) {
                Some(()) => {}
                // A page of another kind is the lack of the API; a list that is broken is not, and says nothing of what there is.
                None if page == 0 && stated.as_deref() != Some(INDEX) => {
                    self.lacking.unanswered(repository, subject);
                    return Ok(Pages::NoApi);
                }
                None => {
                    let detail = format!("{what}: a page is no list");
                    return Err(FetchError { kind: FetchErrorKind::Unavailable, detail });
                }
            }
            url = match next {
                Next::Page(next) => next,
                Next::End => return Ok(Pages::All),
                Next::Elsewhere => {
                    return Ok(Pages::Some("go on at an address that is not followed".to_owned()));
                }
            };
        }
        Ok(Pages::Some(format!("are on more than {} pages", referrers::MAX_PAGES)))
    }
}

/// What became of the pages.
enum Pages {
    /// All were read.
    All,
    /// Some were read, and there are others.
    Some(String),
    /// There is no API.
    NoApi,
}

/// Adds what another list has, each once.
fn add(list: &mut ReferrerList, other: ReferrerList) {
    for referrer in other.referrers {
        if list.referrers.iter().all(|known| known.digest != referrer.digest) {
            list.referrers.push(referrer);
        }
    }
    list.unlisted.extend(other.unlisted);
}

/// For what is wrong with a list as a whole.
fn what(repository: &Repository, subject: &Digest) -> String {
    format!("the referrers of {subject} in {repository}")
}
