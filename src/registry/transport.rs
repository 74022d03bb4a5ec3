//! One request and its answer: redirects by hand, bodies bounded while they are read, failures by their kind.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::address::{Addresses, is_loopback, origin};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
    },
    gather::ports::Observer,
};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// How much of an error's body is read, so that the connection can be used again.
const MAX_DRAIN: u64 = 16 * 1024;
/// The longest `Retry-After` that is waited for here; a longer one is the caller's.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The longest `Retry-After` that is passed on.
const LONGEST_TOLD: Duration = Duration::from_hours(1);
/// How often a request is sent again because the registry asked for it.
const MAX_WAITS: usize = 2;
/// How many KiB of large bodies are held while they are read, over all requests.
const READING: usize = 64 << 10;
/// The largest body that is read whatever else is.
const SMALL: usize = 64 << 10;

/// Sends requests.
pub struct Transport {
    /// For everything but loopback; proxies are honoured.
    remote: reqwest::Client,
    /// For loopback.
    local: reqwest::Client,
    addresses: Addresses,
    observer: Arc<dyn Observer>,
    /// How long one request may take, its body included.
    patience: Duration,
    /// KiB of large bodies.
    reading: Arc<Semaphore>,
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

/// A request that is under way. It is counted when it is dropped, by what happened: given up, unless something else is said.
struct Count {
    observer: Arc<dyn Observer>,
    registry: String,
    outcome: &'static str,
    begun: Instant,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.observer.registry_request(&self.registry, self.outcome, self.begun.elapsed());
    }
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
    count: Count,
    ends: Instant,
    reading: Arc<Semaphore>,
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
        patience: Duration,
    ) -> Self {
        Self { remote, local, addresses, observer, patience, reading: Arc::new(Semaphore::new(READING)) }
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
                // What took long once takes long again.
                Err(Failure::NoAnswer(error))
                    if error.kind == FetchErrorKind::Unavailable && !tried_again =>
                {
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
            let unfollowed = |why: &str| Failure::Redirect(unavailable(ask, why));
            if ask.method == Method::POST {
                return Err(unfollowed("it redirects a request with credentials, which is not followed"));
            }
            let next = location(&answer).ok_or_else(|| unfollowed("it redirects to nowhere"))?;
            self.addresses.check_hop(&url, &next).map_err(|error| unfollowed(&error.detail))?;
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
        let ends = begun.checked_add(self.patience).unwrap_or(begun);
        let mut count = Count {
            observer: Arc::clone(&self.observer),
            registry: ask.registry.to_owned(),
            outcome: "unavailable",
            begun,
        };
        let response = match timeout_at(ends, request.send()).await {
            Ok(result) => result.map_err(|error| Failure::NoAnswer(no_answer(ask, &error)))?,
            Err(_) => return Err(Failure::NoAnswer(too_slow(ask))),
        };
        count.outcome = outcome(response.status(), &ask.method);
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            url: url.clone(),
            response,
            count,
            ends,
            reading: Arc::clone(&self.reading),
        })
    }
}

impl Answer {
    /// The whole body, of at most `limit` bytes, which are of `digest` where that is known.
    ///
    /// # Errors
    /// `Malformed` for a body that is larger, `Unavailable` for one that breaks off or is another one's, `Deadline` for one that takes long.
    pub async fn body(
        mut self,
        limit: usize,
        digest: Option<&Digest>,
        ask: &Ask<'_>,
    ) -> Result<Bytes, FetchError> {
        let (ends, reading) = (self.ends, Arc::clone(&self.reading));
        let read = read(&mut self.response, limit, &reading, ask);
        let read = timeout_at(ends, read).await.unwrap_or_else(|_| Err(too_slow(ask)));
        // Bytes that are not the digest's are a registry or a line that cannot be relied on now, not an answer.
        let read = read.and_then(|bytes| match digest {
            Some(digest) if !digest.is_of(&bytes) => {
                let detail =
                    format!("{} gave other bytes for {} than its digest says", ask.registry, ask.what);
                Err(FetchError { kind: FetchErrorKind::Unavailable, detail })
            }
            _ => Ok(bytes),
        });
        self.count.outcome = match &read {
            Ok(_) => "ok",
            Err(error) if error.kind == FetchErrorKind::Malformed => "malformed",
            Err(_) => "unavailable",
        };
        read
    }

    /// Reads what is left where that is little, so that the connection can be used again.
    pub async fn drain(self) {
        if self.response.content_length().is_some_and(|length| length <= MAX_DRAIN) {
            let _ = timeout_at(self.ends, self.response.bytes()).await;
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

async fn read(
    response: &mut Response,
    limit: usize,
    reading: &Semaphore,
    ask: &Ask<'_>,
) -> Result<Bytes, FetchError> {
    let too_large = || FetchError {
        kind: FetchErrorKind::Malformed,
        detail: format!("{} gave more than the {limit} bytes that are read of {}", ask.registry, ask.what),
    };
    let stated = response.content_length().and_then(|length| usize::try_from(length).ok());
    if stated.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let most = stated.unwrap_or(limit);
    let mut body = BytesMut::with_capacity(most.min(SMALL));
    let mut turn = None;
    loop {
        let chunk = response.chunk().await.map_err(|error| broke_off(ask, &error))?;
        let Some(chunk) = chunk else { return Ok(body.freeze()) };
        let length = body.len().saturating_add(chunk.len());
        if length > limit {
            return Err(too_large());
        }
        // Once for all that may come: nobody waits with a part of it in hand for more.
        if length > SMALL && turn.is_none() {
            let kib = u32::try_from(most.max(length) >> 10).unwrap_or(u32::MAX);
            turn = Some(reading.acquire_many(kib).await.map_err(|_closed| unavailable(ask, "closed"))?);
            body.reserve(most.saturating_sub(body.len()));
        }
        body.extend_from_slice(&chunk);
    }
}

fn too_slow(ask: &Ask<'_>) -> FetchError {
    let detail = format!("{} took too long to answer when asked for {}", ask.registry, ask.what);
    FetchError { kind: FetchErrorKind::Deadline, detail }
}

fn unavailable(ask: &Ask<'_>, why: &str) -> FetchError {
    let detail = format!("{} gave nothing usable for {}: {why}", ask.registry, ask.what);
    FetchError { kind: FetchErrorKind::Unavailable, detail }
}

/// A registry that is there and says nothing is too slow; one that cannot be reached is not there.
fn no_answer(ask: &Ask<'_>, error: &reqwest::Error) -> FetchError {
    if error.is_timeout() && !error.is_connect() {
        return too_slow(ask);
    }
    unavailable(
        ask,
        &format!(
            "no answer ({})",
            if error.is_timeout() { "it took too long".to_owned() } else { innermost(error) }
        ),
    )
}

fn broke_off(ask: &Ask<'_>, error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return too_slow(ask);
    }
    unavailable(ask, &format!("the answer broke off ({})", innermost(error)))
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

/// In seconds, or as a date (RFC 9110, "Retry-After"). One that is over is a wish to come at once.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    static DATES: DateTimeParser = DateTimeParser::new();
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = DATES.parse_timestamp(text).ok()?.duration_since(Timestamp::now());
        Duration::try_from(until).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(LONGEST_TOLD))
}

/// A moment, and not the same one for everybody who waits.
pub fn pause() -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness everybody waits the same: no harm that a webhook would have to fail for.
    let _ = aws_lc_rs::rand::fill(&mut random);
    Duration::from_millis(50).saturating_add(Duration::from_millis(u64::from(random[0] / 3)))
}

/// What an answer counts as while its body is not read: what is there and not read was given up.
fn outcome(status: StatusCode, method: &Method) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "denied",
        StatusCode::TOO_MANY_REQUESTS => "throttled",
        status if status.is_redirection() || (status.is_success() && method == Method::HEAD) => "ok",
        _ => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wish_to_come_back_is_understood_in_seconds_and_as_a_date() {
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        let soon = Timestamp::now().checked_add(Duration::from_secs(100)).unwrap();
        let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!(after(&date).is_some_and(|wait| (90..=100).contains(&wait)), "{date}");
        assert_eq!(after("Fri, 31 Dec 2100 23:59:59 GMT"), Some(LONGEST_TOLD.as_secs()));
        assert_eq!(after("18446744073709551615"), Some(LONGEST_TOLD.as_secs()));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }
}
