//! What a registry asks for before it opens: its challenge, and the scope of a token that it wants (distribution specification, "Token
//! Scope Documentation").

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::domain::reference::Repository;

/// How much of a stated scope is looked at.
const MAX_SCOPE: usize = 1024;
/// A scope that some registries state whatever is asked of them. It lists repositories, and opens none.
const CATALOG: &str = "registry:catalog:*";

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// With a user and a password.
    Basic,
    /// With a token of this server.
    Bearer {
        /// The token server.
        realm: String,
        /// The service to name there.
        service: Option<String>,
    },
}

impl Challenge {
    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Basic => 0,
            Self::Bearer { realm, service } => {
                realm.len().saturating_add(service.as_ref().map_or(0, String::len))
            }
        }
    }
}

/// The challenge that can be answered, a token rather than a password, and the scope that it states. One header may have several
/// challenges, and there may be several headers (RFC 9110, "WWW-Authenticate").
pub fn challenge(headers: &HeaderMap) -> Option<(Challenge, Option<String>)> {
    let all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut challenges: Vec<_> = all.flat_map(split).filter_map(read).collect();
    challenges.sort_by_key(|(challenge, _)| *challenge == Challenge::Basic);
    challenges.into_iter().next()
}

/// A scheme and its parameters.
type Stated = (String, Vec<(String, String)>);

/// `Bearer realm="https://…",service="…",scope="…"`
fn read((scheme, parameters): Stated) -> Option<(Challenge, Option<String>)> {
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some((Challenge::Basic, None)),
        "bearer" => {
            let find = |name: &str| {
                parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            Some((Challenge::Bearer { realm: find("realm")?, service: find("service") }, find("scope")))
        }
        _ => None,
    }
}

/// The challenges of one header: a word that no `=` follows begins the next one.
fn split(header: &str) -> Vec<Stated> {
    let mut found: Vec<Stated> = Vec::new();
    let mut rest = header.trim_start_matches(BETWEEN);
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            None => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
            Some(value) => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { break };
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
        }
        rest = rest.trim_start_matches(BETWEEN);
    }
    found
}

/// What separates challenges and parameters.
const BETWEEN: [char; 3] = [' ', '\t', ','];

/// A value and what follows it; `None` where its quotes do not end.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(BETWEEN).unwrap_or(text.len());
        return text.split_at_checked(end).map(|(value, after)| (value.to_owned(), after));
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return Some((value, quoted.get(at.saturating_add(1)..).unwrap_or_default())),
            _ => value.push(c),
        }
    }
    None
}

/// What to ask a token for: the scope that the registry states, as far as it is for pulling this repository, else the usual one.
/// A registry that states another's scope must not have a token made for it.
pub fn scopes(repository: &Repository, stated: Option<&str>) -> Vec<String> {
    let stated = stated.filter(|stated| stated.len() <= MAX_SCOPE).unwrap_or_default();
    let path = repository.path();
    // Some registries serve a repository under more or fewer folders than they know it by.
    let is_below = |longer: &str, shorter: &str| {
        longer.strip_suffix(shorter).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    let pull = |scope: &str| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let is_ours = !name.is_empty() && (is_below(name, path) || is_below(path, name));
        let is_repository = kind == "repository" || kind.starts_with("repository(");
        let pulls = actions.split(',').any(|action| action == "pull");
        (is_repository && is_ours && pulls).then(|| format!("{kind}:{name}:pull"))
    };
    let own = stated.split(' ').find_map(pull).unwrap_or_else(|| format!("repository:{path}:pull"));
    let catalog = stated.split(' ').any(|scope| scope == CATALOG).then(|| CATALOG.to_owned());
    [own].into_iter().chain(catalog).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(ToOwned::to_owned) })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull""#,
                bearer("https://ghcr.io/token", Some("ghcr.io")),
            ),
            (r#"bearer  service="a,b" , realm="https://x/""#, bearer("https://x/", Some("a,b"))),
            ("Bearer realm=https://x/,service=s", bearer("https://x/", Some("s"))),
            (r#"Bearer service="s""#, None),
            (r#"Bearer realm="https://x"#, None),
            (r#"Basic realm="r""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
            assert_eq!(challenge(&headers).map(|(challenge, _)| challenge), expected, "{text}");
        }
        let mut both = HeaderMap::new();
        both.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=x"));
        both.append(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="https://x/""#));
        assert_eq!(challenge(&both).map(|(challenge, _)| challenge), bearer("https://x/", None));
    }

    #[test]
    fn c11_a_header_may_have_several_challenges() {
        let token = Challenge::Bearer { realm: "https://x/".to_owned(), service: Some("s, t".to_owned()) };
        for text in [
            r#"Basic realm="r", Bearer realm="https://x/", service="s, t", scope="repository:a:pull""#,
            r#"Bearer realm="https://x/",service="s, t",scope="repository:a:pull",Basic realm="r""#,
            r#"Negotiate, Basic realm="Bearer realm=\"y\"", charset="UTF-8", BEARER realm = "https://x/" , service="s, t",scope="repository:a:pull""#,
            r#"Basic,Bearer scope="repository:a:pull",realm=https://x/,service="s, t""#,
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
            assert_eq!(
                challenge(&headers),
                Some((token.clone(), Some("repository:a:pull".to_owned()))),
                "{text}"
            );
        }
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer service="s", Basic realm="r""#));
        assert_eq!(challenge(&headers), Some((Challenge::Basic, None)));
    }

    #[test]
    fn a_scope_is_the_registrys_own_word_as_long_as_it_is_for_pulling_this_repository() {
        let repository: Repository = "r.example/team/app".parse().unwrap();
        let own = || vec!["repository:team/app:pull".to_owned()];
        for (stated, expected) in [
            ("", own()),
            ("repository:team/app:pull", own()),
            ("repository:team/app:pull,push", own()),
            ("repository:team/app:push", own()),
            ("repository:other/app:pull", own()),
            ("repository(plugin):team/app:pull", vec!["repository(plugin):team/app:pull".to_owned()]),
            ("repository:tenant/team/app:pull", vec!["repository:tenant/team/app:pull".to_owned()]),
            ("repository:app:pull", vec!["repository:app:pull".to_owned()]),
            ("repository:evilteam/app:pull", own()),
            (
                "repository:r.example:5000/team/app:pull",
                vec!["repository:r.example:5000/team/app:pull".to_owned()],
            ),
            ("registry:catalog:*", [own(), vec!["registry:catalog:*".to_owned()]].concat()),
            ("registry:admin:*", own()),
            ("repository:team/app:pull repository:team/app:push repository:b:pull", own()),
            ("x", own()),
        ] {
            assert_eq!(scopes(&repository, Some(stated)), expected, "{stated}");
        }
        assert_eq!(scopes(&repository, None), own());
    }
}
