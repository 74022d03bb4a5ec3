//! One request: redirects by hand, what is tried again, and how long it may take.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Method, StatusCode, Url,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, LOCATION},
};

use tokio::time::{Instant, timeout_at};

use super::{
    address::{Addresses, is_loopback, origin},
    answer::{Answer, Count, no_answer, outcome, retry_after, too_slow, unavailable},
    private::PrivateAddresses,
};
use crate::{
    domain::evidence::{FetchError, FetchErrorKind},
    gather::{fair::FairShares, ports::Observer},
};

/// The longest URL that is redirected to; those with a signature take a few thousand bytes.
const MAX_LOCATION: usize = 16 << 10;
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// The longest `Retry-After` that is waited for here; a longer one is the caller's.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often a request is sent again because the registry asked for it.
const MAX_WAITS: usize = 2;
/// How many KiB of large bodies are held while they are read, over all requests.
const READING: usize = 48 << 10;

/// Sends requests.
pub struct Transport {
    /// For everything but loopback; proxies are honoured.
    remote: reqwest::Client,
    /// For loopback.
    local: reqwest::Client,
    /// For names of local registries that are listed, which may lead to any address.
    listed: reqwest::Client,
    addresses: Addresses,
    /// In a cluster.
    private: Option<PrivateAddresses>,
    observer: Arc<dyn Observer>,
    /// How long one request may take, its body included.
    patience: Duration,
    /// KiB of large bodies.
    reading: Arc<FairShares>,
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
        [remote, local, listed]: [reqwest::Client; 3],
        addresses: Addresses,
        private: Option<PrivateAddresses>,
        observer: Arc<dyn Observer>,
        patience: Duration,
    ) -> Self {
        let reading = FairShares::new(READING);
        Self { remote, local, listed, addresses, private, observer, patience, reading }
    }

    /// How many bytes of large bodies are held, and of what is known of private addresses.
    pub fn bytes(&self) -> [u64; 2] {
        let held = self.reading.taken().saturating_mul(1 << 10);
        let private = self.private.as_ref().map_or(0, PrivateAddresses::bytes);
        [u64::try_from(held).unwrap_or(u64::MAX), private]
    }

    /// What is told of a failure at a registry.
    pub fn tell(&self, registry: &str, error: FetchError) -> FetchError {
        match &self.private {
            Some(private) => private.tell(registry, error),
            None => error,
        }
    }

    /// Whether nothing is told of a failure at a registry.
    pub fn conceals(&self, registry: &str) -> bool {
        self.private.as_ref().is_some_and(|private| private.is_private(registry))
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
        let client = match url {
            url if is_loopback(url) => &self.local,
            url if self.addresses.is_listed(url) => &self.listed,
            _ => &self.remote,
        };
        if let Some(private) = &self.private {
            private.goes_to(ask.registry, url);
        }
        // Bytes are hashed as they are stored.
        let mut request = client
            .request(ask.method.clone(), url.clone())
            .header(ACCEPT, ask.accept)
            .header(ACCEPT_ENCODING, "identity");
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
            private: self.private.clone(),
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

fn location(answer: &Answer) -> Option<Url> {
    let text = answer.headers.get(LOCATION)?.to_str().ok().filter(|text| text.len() <= MAX_LOCATION)?;
    let mut url = answer.url.join(text).ok()?;
    url.set_fragment(None);
    Some(url)
}

fn is_asked_back(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// A moment, and not the same one for everybody who waits.
pub fn pause() -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness everybody waits the same: no harm that a webhook would have to fail for.
    let _ = aws_lc_rs::rand::fill(&mut random);
    Duration::from_millis(50).saturating_add(Duration::from_millis(u64::from(random[0] / 3)))
}
