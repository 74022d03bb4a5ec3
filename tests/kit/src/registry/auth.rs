//! Who may read what: nobody is asked, Basic credentials, or the token flow of Docker and the
//! distribution specification with tokens that are bound to a repository and expire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use parking_lot::Mutex;
use serde_json::json;

use super::observe::Request;
use super::reply::Reply;
use super::route::form_values;

/// A user name and password, and the repositories they open.
#[derive(Clone, Debug)]
struct Credential {
    user: String,
    password: String,
    /// A repository or a folder of them; empty for all.
    scope: String,
}

impl Credential {
    fn opens(&self, repo: &str) -> bool {
        self.scope.is_empty() || repo == self.scope || repo.starts_with(&format!("{}/", self.scope))
    }
}

/// How the token endpoint names the token in its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenField {
    /// `token`
    Token,
    /// `access_token`
    AccessToken,
    /// Both, as Docker Hub does.
    #[default]
    Both,
}

/// The token flow: a 401 with a challenge, a `/token` endpoint, tokens for one repository each.
#[derive(Clone, Debug)]
pub struct TokenAuth {
    service: String,
    realm: Option<String>,
    credentials: Vec<Credential>,
    refresh_token: Option<String>,
    lifetime: Duration,
    announced: Option<u64>,
    field: TokenField,
    scope: Option<String>,
    fixed: Option<String>,
}

impl TokenAuth {
    /// Anybody may have a token, as for public images.
    pub fn anonymous() -> Self {
        Self {
            service: "kit.registry".to_owned(),
            realm: None,
            credentials: Vec::new(),
            refresh_token: None,
            lifetime: Duration::from_mins(5),
            announced: Some(300),
            field: TokenField::default(),
            scope: None,
            fixed: None,
        }
    }

    /// Tokens only for this user.
    pub fn for_user(user: &str, password: &str) -> Self {
        Self::anonymous().credential("", user, password)
    }

    /// Tokens for this user as well, for one repository or folder (`""` for all).
    #[must_use]
    pub fn credential(mut self, scope: &str, user: &str, password: &str) -> Self {
        self.credentials.push(Credential {
            user: user.to_owned(),
            password: password.to_owned(),
            scope: scope.to_owned(),
        });
        self
    }

    /// Tokens also for who posts this refresh token (`identitytoken` in a docker config).
    #[must_use]
    pub fn refresh_token(mut self, token: &str) -> Self {
        self.refresh_token = Some(token.to_owned());
        self
    }

    /// How long tokens are good for, which is also what `expires_in` says (in whole seconds).
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self.announced = Some(lifetime.as_secs());
        self
    }

    /// What `expires_in` says, whatever the truth; `None` leaves it out, which means 60 seconds.
    #[must_use]
    pub fn announce(mut self, expires_in: Option<u64>) -> Self {
        self.announced = expires_in;
        self
    }

    /// Another realm than this registry's own `/token`.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// The service that the challenge names.
    #[must_use]
    pub fn service(mut self, service: &str) -> Self {
        service.clone_into(&mut self.service);
        self
    }

    /// The scope that the challenge states and a token must have, with `REPO` for the repository; an empty one is not stated, and the usual
    /// one is wanted.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.to_owned());
        self
    }

    /// A token that opens everything (`registrytoken` in a docker config).
    #[must_use]
    pub fn fixed_token(mut self, token: &str) -> Self {
        self.fixed = Some(token.to_owned());
        self
    }

    /// How the answer names the token.
    #[must_use]
    pub fn field(mut self, field: TokenField) -> Self {
        self.field = field;
        self
    }
}

/// A token that was handed out.
struct Issued {
    asked: Vec<String>,
    granted: Vec<String>,
    until: Instant,
}

enum Mode {
    Open,
    Basic(Vec<Credential>),
    Token(TokenAuth),
}

/// The registry's gate.
pub(crate) struct Auth {
    mode: Mutex<Mode>,
    issued: Mutex<HashMap<String, Issued>>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { mode: Mutex::new(Mode::Open), issued: Mutex::default() }
    }
}

impl Auth {
    pub(crate) fn open(&self) {
        *self.mode.lock() = Mode::Open;
    }

    pub(crate) fn require_basic(&self, scope: &str, user: &str, password: &str) {
        let credential =
            Credential { user: user.to_owned(), password: password.to_owned(), scope: scope.to_owned() };
        let mut mode = self.mode.lock();
        match &mut *mode {
            Mode::Basic(credentials) => credentials.push(credential),
            Mode::Open | Mode::Token(_) => *mode = Mode::Basic(vec![credential]),
        }
    }

    pub(crate) fn require_token(&self, auth: TokenAuth) {
        *self.mode.lock() = Mode::Token(auth);
    }

    pub(crate) fn revoke_tokens(&self) {
        self.issued.lock().clear();
    }

    /// The answer to a request that may not go on; `None` for one that may.
    pub(crate) fn refusal(&self, request: &Request, host: &str) -> Option<Reply> {
        let repo = request.repo.as_deref();
        match &*self.mode.lock() {
            Mode::Open => None,
            Mode::Basic(known) => {
                let held = basic(request).map(|given| held(known, &given)).unwrap_or_default();
                if held.is_empty() {
                    return Some(challenge("Basic realm=\"kit\"".to_owned()));
                }
                let opened = repo.is_none_or(|repo| held.iter().any(|credential| credential.opens(repo)));
                (!opened).then(|| Reply::error(StatusCode::FORBIDDEN, "DENIED"))
            }
            Mode::Token(auth) => self.token_refusal(auth, request, host),
        }
    }

    fn token_refusal(&self, auth: &TokenAuth, request: &Request, host: &str) -> Option<Reply> {
        let realm = auth.realm.clone().unwrap_or_else(|| format!("http://{host}/token"));
        let mut header = format!("Bearer realm=\"{realm}\",service=\"{}\"", auth.service);
        let stated = auth.scope.as_deref().unwrap_or("repository:REPO:pull");
        let usual = if stated.is_empty() { "repository:REPO:pull" } else { stated };
        let scope = request.repo.as_ref().map(|repo| usual.replace("REPO", repo));
        if let (Some(scope), false) = (&scope, stated.is_empty()) {
            header = format!("{header},scope=\"{scope}\"");
        }
        let token = request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        if token.is_some() && token == auth.fixed.as_deref() {
            return None;
        }
        let issued = self.issued.lock();
        let Some(issued) =
            token.and_then(|token| issued.get(token)).filter(|issued| issued.until > Instant::now())
        else {
            return Some(challenge(header));
        };
        match scope {
            None => None,
            Some(scope) if issued.granted.contains(&scope) => None,
            // What it was asked for and not granted is a no; a token of another repository is the wrong token.
            Some(scope) if issued.asked.contains(&scope) => {
                Some(Reply::error(StatusCode::FORBIDDEN, "DENIED"))
            }
            Some(_) => Some(challenge(format!("{header},error=\"insufficient_scope\""))),
        }
    }

    /// What `/token` answers.
    pub(crate) fn token(&self, request: &Request, form: &str) -> Reply {
        let mode = self.mode.lock();
        let Mode::Token(auth) = &*mode else { return Reply::error(StatusCode::NOT_FOUND, "UNSUPPORTED") };
        let refresh = form_values(form, "refresh_token");
        let public = auth.credentials.is_empty() && auth.refresh_token.is_none();
        let held = match (basic(request), refresh.first()) {
            (_, Some(given)) if auth.refresh_token.as_ref() == Some(given) => None,
            (Some(given), None) => Some(held(&auth.credentials, &given)),
            (None, None) if public => None,
            _ => Some(Vec::new()),
        };
        if held.as_ref().is_some_and(Vec::is_empty) {
            return unauthorized();
        }
        let opens = |repo: &str| held.as_ref().is_none_or(|held| held.iter().any(|one| one.opens(repo)));
        let asked = [request.query_values("scope"), form_values(form, "scope")].concat();
        let asked: Vec<String> =
            asked.iter().flat_map(|scopes| scopes.split(' ')).filter_map(pull_scope).collect();
        let granted = asked
            .iter()
            .filter(|scope| opens(scope.split(':').nth(1).unwrap_or_default()))
            .cloned()
            .collect();
        let mut issued = self.issued.lock();
        let token =
            format!("kit-token-{}-{}", NEXT_TOKEN.fetch_add(1, Ordering::Relaxed), std::process::id());
        issued.insert(token.clone(), Issued { asked, granted, until: Instant::now() + auth.lifetime });
        let mut body = json!({});
        if auth.field != TokenField::AccessToken {
            body["token"] = json!(token);
        }
        if auth.field != TokenField::Token {
            body["access_token"] = json!(token);
        }
        if let Some(seconds) = auth.announced {
            body["expires_in"] = json!(seconds);
        }
        Reply::json("application/json", &body)
    }
}

/// `repository:NAME:pull,push` as `repository:NAME:pull`; nothing for a scope that does not include pulling.
fn pull_scope(scope: &str) -> Option<String> {
    if scope == "registry:catalog:*" {
        return Some(scope.to_owned());
    }
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    actions
        .split(',')
        .any(|action| action == "pull" || action == "*")
        .then(|| format!("repository:{name}:pull"))
}

fn unauthorized() -> Reply {
    Reply::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED")
}

fn challenge(header: String) -> Reply {
    unauthorized().header("www-authenticate", header)
}

fn basic(request: &Request) -> Option<(String, String)> {
    let encoded = request.authorization.as_deref()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn held<'a>(known: &'a [Credential], given: &(String, String)) -> Vec<&'a Credential> {
    known.iter().filter(|credential| credential.user == given.0 && credential.password == given.1).collect()
}

/// No two tokens are alike, also after all were revoked.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);
