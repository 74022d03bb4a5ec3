//! Lists of referrers: the pages of the referrers API, and the fallback tag (distribution specification 1.1, "Listing Referrers").

use reqwest::{
    Url,
    header::{HeaderMap, LINK},
};
use serde::Deserialize;

use super::address::origin;
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
    },
    gather::ports::Referrer,
};

/// How many pages are read.
pub const MAX_PAGES: usize = 10;
/// How many referrers a digest may have.
const MAX_REFERRERS: usize = 200;

/// An index of referrers, as far as it is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: String,
    artifact_type: Option<String>,
}

/// The referrers in the body of an answer; `None` for what is no list of referrers. An entry whose digest cannot be checked here (another
/// algorithm, say) cannot be used either, and hides none of the others.
pub fn parse(body: &[u8]) -> Option<Vec<Referrer>> {
    let list: List = serde_json::from_slice(body).ok()?;
    let referrer = |entry: Entry| {
        let digest: Digest = entry.digest.parse().ok()?;
        Some(Referrer { digest, artifact_type: entry.artifact_type })
    };
    Some(list.manifests.into_iter().filter_map(referrer).collect())
}

/// Adds a page, each referrer once.
///
/// # Errors
/// `Malformed` where there are more than are looked at.
pub fn add(all: &mut Vec<Referrer>, page: Vec<Referrer>, what: &str) -> Result<(), FetchError> {
    for referrer in page {
        if all.iter().all(|known| known.digest != referrer.digest) {
            all.push(referrer);
        }
    }
    if all.len() > MAX_REFERRERS {
        return Err(too_many(what));
    }
    Ok(())
}

/// The failure where a list does not end.
pub fn too_many(what: &str) -> FetchError {
    let detail =
        format!("{what} are more than the {MAX_REFERRERS} entries or {MAX_PAGES} pages that are looked at");
    FetchError { kind: FetchErrorKind::Malformed, detail }
}

/// The next page, of the same list at the same host: a link elsewhere is not followed with the registry's credentials, nor at all.
///
/// # Errors
/// `Malformed` for a link that leads elsewhere.
pub fn next_page(
    current: &Url,
    first: &Url,
    headers: &HeaderMap,
    what: &str,
) -> Result<Option<Url>, FetchError> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = links.flat_map(|value| value.split(',')).find_map(next_link) else { return Ok(None) };
    let next =
        current.join(target).ok().filter(|next| origin(next) == origin(first) && next.path() == first.path());
    next.map(Some).ok_or_else(|| FetchError {
        kind: FetchErrorKind::Malformed,
        detail: format!("{what} go on at another place, which is not followed"),
    })
}

/// `</v2/…?n=10&last=…>; rel="next"` (RFC 8288)
fn next_link(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('=')).any(
        |(name, value)| {
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
        },
    );
    is_next.then_some(target)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn next(link: &str) -> Result<Option<String>, FetchError> {
        let first: Url = "https://r.example/v2/a/referrers/sha256:00".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_str(link).unwrap());
        next_page(&first, &first, &headers, "they").map(|url| url.map(|url| url.to_string()))
    }

    #[test]
    fn only_the_next_page_of_the_same_list_is_followed() {
        let expected = Ok(Some("https://r.example/v2/a/referrers/sha256:00?last=x".to_owned()));
        assert_eq!(next(r#"</v2/a/referrers/sha256:00?last=x>; rel="next""#), expected);
        assert_eq!(next("<?last=x>;rel=next"), expected);
        assert_eq!(
            next(r#"</other>; rel="first", <https://r.example/v2/a/referrers/sha256:00?last=x>; rel="next""#),
            expected
        );
        assert_eq!(next(r#"</x>; rel="prev""#), Ok(None));
        for elsewhere in [
            "https://evil.example/v2/a/referrers/sha256:00",
            "http://r.example/v2/a/referrers/sha256:00",
            "/v2/b/referrers/sha256:00",
            "//evil.example/",
        ] {
            assert!(next(&format!("<{elsewhere}>; rel=next")).is_err(), "{elsewhere}");
        }
    }
}
