//! Which endpoint of the distribution specification a path names. Pure text; nothing is looked up.

/// What kind of thing a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `/v2/`
    Ping,
    /// A manifest by digest or by an ordinary tag.
    Manifest,
    /// The manifest of cosign's tag `sha256-<hex>.att`.
    AttTag,
    /// The manifest of cosign's tag `sha256-<hex>.sig`.
    SigTag,
    /// The manifest of the tag `sha256-<hex>`, where referrers are listed in the absence of the API.
    FallbackTag,
    /// A blob.
    Blob,
    /// The referrers API.
    Referrers,
    /// The list of tags.
    Tags,
    /// `/token`
    Token,
    /// Anything else.
    Other,
}

/// A path, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) target: Target,
    pub(crate) repo: Option<String>,
    pub(crate) reference: Option<String>,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Self {
        let bare = |target| Self { target, repo: None, reference: None };
        match path {
            "/v2" | "/v2/" => return bare(Target::Ping),
            "/token" => return bare(Target::Token),
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return bare(Target::Other) };
        let endpoints = [
            ("/manifests/", Target::Manifest),
            ("/blobs/", Target::Blob),
            ("/referrers/", Target::Referrers),
            ("/tags/", Target::Tags),
        ];
        // A repository may be called `a/blobs/b`: the endpoint is the last of these words.
        let split =
            |(marker, target)| rest.rsplit_once(marker).map(|(repo, reference)| (repo, reference, target));
        let Some((repo, reference, target)) =
            endpoints.into_iter().filter_map(split).max_by_key(|(repo, ..)| repo.len())
        else {
            return bare(Target::Other);
        };
        let target = if target == Target::Manifest { manifest_target(reference) } else { target };
        Self { target, repo: Some(repo.to_owned()), reference: Some(reference.to_owned()) }
    }
}

fn manifest_target(reference: &str) -> Target {
    let Some(rest) = reference.strip_prefix("sha256-") else { return Target::Manifest };
    let (hex, suffix) = rest.split_once('.').map_or((rest, None), |(hex, suffix)| (hex, Some(suffix)));
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Target::Manifest;
    }
    match suffix {
        None => Target::FallbackTag,
        Some("att") => Target::AttTag,
        Some("sig") => Target::SigTag,
        Some(_) => Target::Manifest,
    }
}

/// The values of one key in a query or form, decoded.
pub(crate) fn form_values(form: &str, key: &str) -> Vec<String> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(k, _)| *k == key)
        .map(|(_, v)| decode(v))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                out.push(hex::decode(hex).map_or(b'?', |decoded| decoded[0]));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
