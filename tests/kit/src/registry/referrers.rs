//! The referrers API: a page of descriptors, filtered where filtering is on and asked for.

use hyper::StatusCode;
use serde_json::json;

use super::Settings;
use super::content::{OCI_INDEX, Repo};
use super::observe::Request;
use super::reply::Reply;

/// The page of referrers that this request asks for.
pub(crate) fn page(repo: &Repo, subject: &str, request: &Request, settings: &Settings) -> Reply {
    if !settings.referrers_api {
        return Reply::error(StatusCode::NOT_FOUND, "NOT_FOUND");
    }
    let wanted =
        request.query_values("artifactType").into_iter().next().filter(|_| settings.filters_referrers);
    let mut descriptors = repo.referrers(subject);
    if let Some(wanted) = &wanted {
        descriptors.retain(|descriptor| descriptor["artifactType"] == wanted.as_str());
    }
    let last = request.query_values("last").into_iter().next();
    let start = last.and_then(|last| descriptors.iter().position(|d| d["digest"] == last.as_str()));
    let mut descriptors = descriptors.split_off(start.map_or(0, |index| index + 1));
    let mut link = None;
    if let Some(size) = settings.page_size
        && descriptors.len() > size
    {
        descriptors.truncate(size);
        link = descriptors.last().and_then(|d| d["digest"].as_str()).map(|last| {
            let base =
                if settings.absolute_links { format!("http://{}", request.host) } else { String::new() };
            let filter = wanted.as_ref().map(|w| format!("&artifactType={}", w.replace('+', "%2B")));
            format!(
                "<{base}{}?n={size}&last={last}{}>; rel=\"next\"",
                request.path,
                filter.unwrap_or_default()
            )
        });
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
    let mut reply = Reply::json(OCI_INDEX, &index);
    if wanted.is_some() {
        reply = reply.header("oci-filters-applied", "artifactType");
    }
    match link {
        Some(link) => reply.header("link", link),
        None => reply,
    }
}
