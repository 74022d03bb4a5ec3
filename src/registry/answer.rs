//! An answer: its body, bounded while it is read, and the failure that it stands for; counted by what became of it.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HeaderMap, RETRY_AFTER},
};
use tokio::time::{Instant, timeout_at};

use super::{address::origin, private::PrivateAddresses, transport::Ask};
use crate::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
    },
    gather::{fair::FairShares, lanes, ports::Observer},
};

/// How much of an error's body is read, so that the connection can be used again.
const MAX_DRAIN: u64 = 16 * 1024;
/// The longest `Retry-After` that is passed on.
const LONGEST_TOLD: Duration = Duration::from_hours(1);
/// The largest body that is read whatever else is.
const SMALL: usize = 64 << 10;

/// A request that is under way. It is counted when it is dropped, by what happened: given up, unless something else is said.
pub struct Count {
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// The registry it goes to.
    pub registry: String,
    /// In a cluster: of failures at private addresses the metrics tell no more than messages do.
    pub private: Option<PrivateAddresses>,
    /// What happened so far.
    pub outcome: &'static str,
    /// When it began.
    pub begun: Instant,
}

impl Drop for Count {
    fn drop(&mut self) {
        let is_told = self.outcome == "ok"
            || !self.private.as_ref().is_some_and(|private| private.is_private(&self.registry));
        let outcome = if is_told { self.outcome } else { "unavailable" };
        self.observer.registry_request(&self.registry, outcome, self.begun.elapsed());
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
    /// The rest of it.
    pub response: Response,
    /// Told when it is over.
    pub count: Count,
    /// When it is given up.
    pub ends: Instant,
    /// KiB of large bodies.
    pub reading: Arc<FairShares>,
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
        let answered = if origin(&self.url) == origin(&ask.url) {
            ask.registry.to_owned()
        } else {
            format!("{}, to which {} redirects,", origin(&self.url), ask.registry)
        };
        FetchError {
            kind,
            detail: format!("{answered} answered {} to the request for {}", self.status, ask.what),
        }
    }
}

async fn read(
    response: &mut Response,
    limit: usize,
    reading: &Arc<FairShares>,
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
            turn = Some(reading.take(&lanes::reader(), most.max(length) >> 10).await);
            body.reserve(most.saturating_sub(body.len()));
        }
        body.extend_from_slice(&chunk);
    }
}

/// It was there and took too long.
pub fn too_slow(ask: &Ask<'_>) -> FetchError {
    let detail = format!("{} took too long to answer when asked for {}", ask.registry, ask.what);
    FetchError { kind: FetchErrorKind::Deadline, detail }
}

/// Nothing usable came.
pub fn unavailable(ask: &Ask<'_>, why: &str) -> FetchError {
    let detail = format!("{} gave nothing usable for {}: {why}", ask.registry, ask.what);
    FetchError { kind: FetchErrorKind::Unavailable, detail }
}

/// A registry that is there and says nothing is too slow; one that cannot be reached is not there.
pub fn no_answer(ask: &Ask<'_>, error: &reqwest::Error) -> FetchError {
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

/// In seconds, or as a date (RFC 9110, "Retry-After"). One that is over is a wish to come at once.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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

/// What an answer counts as while its body is not read: what is there and not read was given up.
pub fn outcome(status: StatusCode, method: &Method) -> &'static str {
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
    use reqwest::header::HeaderValue;

    use super::*;

    #[derive(Default)]
    struct Seen(parking_lot::Mutex<Vec<(String, &'static str)>>);

    impl Observer for Seen {
        fn registry_request(&self, registry: &str, outcome: &'static str, _: Duration) {
            self.0.lock().push((registry.to_owned(), outcome));
        }

        fn cache(&self, _: &'static str, _: bool) {}
    }

    #[test]
    fn d_metrics_tell_no_more_of_failures_at_private_addresses_than_messages_do() {
        let (seen, private) = (Arc::<Seen>::default(), PrivateAddresses::new());
        for (registry, outcome) in [
            ("10.0.0.1:22", "denied"),
            ("10.0.0.1:22", "malformed"),
            ("10.0.0.1:22", "ok"),
            ("r.example", "denied"),
        ] {
            private.goes_to(registry, &format!("https://{registry}/v2/").parse().unwrap());
            drop(Count {
                observer: Arc::clone(&seen) as _,
                registry: registry.to_owned(),
                private: Some(private.clone()),
                outcome,
                begun: Instant::now(),
            });
        }
        let outcomes: Vec<_> = seen.0.lock().iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(outcomes, ["unavailable", "unavailable", "ok", "denied"]);
    }

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
