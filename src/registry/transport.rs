//! One request and its answer: redirects by hand, bodies bounded while they are read, failures by their kind.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
};

use super::address::{Addresses, is_loopback, origin};
use crate::{
    domain::evidence::{FetchError, FetchErrorKind},
    gather::ports::Observer,
};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// How much of an error's body is read, so that the connection can be used again.
const MAX_DRAIN: u64 = 16 * 1024;
/// The longest `Retry-After` that is waited for here; a longer one is the caller's.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often a request is sent again because the registry asked for it.
const MAX_WAITS: usize = 2;

/// Sends requests.
pub struct Transport {
    /// For everything but loopback; proxies are honoured.
    remote: reqwest::Client,
    /// For loopback.
    local: reqwest::Client,
    addresses: Addresses,
    observer: Arc<dyn Observer>,
}

/// What is asked.
#[derive(Clone)]
pub struct Ask<'a> {
    /// GET, HEAD or POST.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// The media types that are understood.
    pub accept: &'static str,
    /// What opens the door; dropped where another host is led to.
    pub authorization: Option<HeaderValue>,
    /// A form to post.
    pub form: Option<String>,
    /// The registry it is about, for metrics and messages.
    pub registry: &'a str,
    /// What is asked for, for messages: `the manifest sha256:… of org/app`.
    pub what: &'a str,
}

/// An answer whose body is not read yet.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    response: Response,
}

/// Why there is no answer; told apart because some of it is tried again, and some of it means that there is no such API.
#[derive(Debug)]
pub enum Failure {
    /// The connection gave none.
    NoAnswer(FetchError),
    /// A redirect that is not followed.
    Redirect(FetchError),
    /// What opens the door cannot be had.
    Closed(FetchError),
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoAnswer(error) | Failure::Redirect(error) | Failure::Closed(error) => error,
        }
    }
}

impl Transport {
    /// A transport under these rules for addresses.
    pub fn new(
        remote: reqwest::Client,
        local: reqwest::Client,
        addresses: Addresses,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { remote, local, addresses, observer }
    }

    /// The rules for addresses.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Who is told what happens.
    pub const fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// Sends a request until there is an answer that is none of: a redirect, a broken connection, a 5xx (each tried once more), or a wish
    /// to come back within moments.
    ///
    /// # Errors
    /// Where there is no answer. A status that is an error is an answer.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let (mut tried_again, mut waits) = (false, 0_usize);
        loop {
            let result = self.follow(ask).await;
            let wait = match &result {
                Ok(answer) if is_asked_back(answer.status) && retry_after(&answer.headers).is_some() => {
                    waits = waits.saturating_add(1);
                    retry_after(&answer.headers).filter(|wait| *wait <= LONGEST_WAIT && waits <= MAX_WAITS)
                }
                Ok(answer) if answer.status.is_server_error() && !tried_again => {
                    tried_again = true;
                    Some(pause())
                }
                Err(Failure::NoAnswer(_)) if !tried_again => {
                    tried_again = true;
                    Some(pause())
                }
                _ => None,
            };
            match (wait, result) {
                (Some(wait), result) => {
                    if let Ok(answer) = result {
                        answer.drain().await;
                    }
                    tokio::time::sleep(wait).await;
                }
                (None, result) => return result,
            }
        }
    }

    async fn follow(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut url = ask.url.clone();
        let mut authorization = ask.authorization.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(ask, &url, authorization.as_ref()).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let unfollowed = |why| Failure::Redirect(unavailable(ask, why));
            if ask.method == Method::POST {
                return Err(unfollowed("it redirects a request with credentials, which is not followed"));
            }
            let next = location(&answer).ok_or_else(|| unfollowed("it redirects to nowhere"))?;
            self.addresses.check_hop(&url, &next).map_err(Failure::Redirect)?;
            // Once dropped it stays dropped, also where a later redirect leads back.
            if origin(&url) != origin(&next) {
                authorization = None;
            }
            answer.drain().await;
            url = next;
        }
        Err(Failure::Redirect(unavailable(ask, "it redirects without end")))
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let client = if is_loopback(url) { &self.local } else { &self.remote };
        let mut request = client.request(ask.method.clone(), url.clone()).header(ACCEPT, ask.accept);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(form) = &ask.form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form.clone());
        }
        let begun = Instant::now();
        let result = request.send().await;
        let outcome = result.as_ref().map_or("unavailable", |response| outcome(response.status()));
        self.observer.registry_request(ask.registry, outcome, begun.elapsed());
        let response = result.map_err(|error| Failure::NoAnswer(no_answer(ask, &error)))?;
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            url: url.clone(),
            response,
        })
    }
}

impl Answer {
    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// `Malformed` for a body that is larger, `Unavailable` for one that breaks off.
    pub async fn body(self, limit: usize, ask: &Ask<'_>) -> Result<Bytes, FetchError> {
        let too_large = || FetchError {
            kind: FetchErrorKind::Malformed,
            detail: format!("{} is larger than the {limit} bytes that are read", ask.what),
        };
        let stated = self.response.content_length().and_then(|length| usize::try_from(length).ok());
        if stated.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut response = self.response;
        let mut body = BytesMut::with_capacity(stated.unwrap_or(0).min(limit));
        loop {
            let chunk = response.chunk().await.map_err(|error| unavailable(ask, &broke_off(&error)))?;
            let Some(chunk) = chunk else { return Ok(body.freeze()) };
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// Reads what is left where that is little, so that the connection can be used again.
    pub async fn drain(self) {
        if self.response.content_length().is_some_and(|length| length <= MAX_DRAIN) {
            let _ = self.response.bytes().await;
        }
    }

    /// The failure that the status stands for.
    pub fn failure(&self, ask: &Ask<'_>) -> FetchError {
        let kind = match self.status {
            StatusCode::NOT_FOUND => FetchErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchErrorKind::Denied,
            StatusCode::TOO_MANY_REQUESTS => FetchErrorKind::Throttled(retry_after(&self.headers)),
            _ => FetchErrorKind::Unavailable,
        };
        FetchError {
            kind,
            detail: format!("{} answered {} to the request for {}", ask.registry, self.status, ask.what),
        }
    }
}

fn unavailable(ask: &Ask<'_>, why: &str) -> FetchError {
    let detail = format!("{} gave nothing usable for {}: {why}", ask.registry, ask.what);
    FetchError { kind: FetchErrorKind::Unavailable, detail }
}

/// A registry that is there and says nothing is too slow; one that cannot be reached is not there.
fn no_answer(ask: &Ask<'_>, error: &reqwest::Error) -> FetchError {
    if error.is_timeout() && !error.is_connect() {
        let detail = format!("{} took too long to answer when asked for {}", ask.registry, ask.what);
        return FetchError { kind: FetchErrorKind::Deadline, detail };
    }
    unavailable(
        ask,
        &format!(
            "no answer ({})",
            if error.is_timeout() { "it took too long".to_owned() } else { innermost(error) }
        ),
    )
}

fn broke_off(error: &reqwest::Error) -> String {
    format!("the answer broke off ({})", innermost(error))
}

/// The cause at the bottom says more than its wrappers; it may quote the peer, so it is cut and escaped.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().take(200).flat_map(char::escape_default).filter(|c| *c != '\\').collect()
}

fn location(answer: &Answer) -> Option<Url> {
    let text = answer.headers.get(LOCATION)?.to_str().ok()?;
    let mut url = answer.url.join(text).ok()?;
    url.set_fragment(None);
    Some(url)
}

fn is_asked_back(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A moment, and not the same one for everybody who waits.
fn pause() -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness everybody waits the same: no harm that a webhook would have to fail for.
    let _ = aws_lc_rs::rand::fill(&mut random);
    Duration::from_millis(50).saturating_add(Duration::from_millis(u64::from(random[0] / 3)))
}

fn outcome(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "denied",
        StatusCode::TOO_MANY_REQUESTS => "throttled",
        status if status.is_success() || status.is_redirection() => "ok",
        _ => "unavailable",
    }
}
