//! Tells in the log that the API server cannot be reached: once a minute, with the cause. The library tells of each request that failed, in
//! a line without one; its lines are left out of the log.

use std::{
    error::Error as StdError,
    fmt::Write as _,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// How long until it is told again.
const AGAIN: Duration = Duration::from_mins(1);

/// Adds to a client what tells; clones share one rate.
#[derive(Debug, Clone, Default)]
pub(super) struct TellWhenAway(Arc<Mutex<Absence>>);

/// Since when no request was answered, and when that was last told.
#[derive(Debug, Default)]
struct Absence {
    told: Option<Instant>,
    requests: u64,
}

impl Absence {
    /// A request was not answered: how many were not since it was last told, where it is to be told now.
    fn goes_on(&mut self, now: Instant) -> Option<u64> {
        self.requests = self.requests.saturating_add(1);
        if self.told.is_some_and(|told| now.duration_since(told) < AGAIN) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.requests))
    }
}

impl<S> Layer<S> for TellWhenAway {
    type Service = Telling<S>;

    fn layer(&self, inner: S) -> Telling<S> {
        Telling { inner, absence: Arc::clone(&self.0) }
    }
}

/// A client that tells.
#[derive(Debug, Clone)]
pub(super) struct Telling<S> {
    inner: S,
    absence: Arc<Mutex<Absence>>,
}

impl<S, R> Service<R> for Telling<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let absence = Arc::clone(&self.absence);
        let called = self.inner.call(request);
        async move {
            let answer = called.await.map_err(Into::into);
            if let Err(error) = &answer {
                let requests = absence.lock().goes_on(Instant::now());
                if let Some(requests) = requests {
                    tracing::warn!(error = causes(error.as_ref()), requests, "cannot reach the API server");
                }
            }
            answer
        }
        .boxed()
    }
}

/// An error with what caused it.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e8_an_api_server_that_is_away_is_told_of_once_a_minute() {
        let start = Instant::now();
        let mut absence = Absence::default();
        let told: Vec<Option<u64>> = [0, 1, 59, 60, 61, 125]
            .iter()
            .map(|s| absence.goes_on(start + Duration::from_secs(*s)))
            .collect();
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn e8_the_cause_is_told() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error (Connect)")]
        struct Bare(#[source] std::io::Error);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(causes(&Bare(refused)), "client error (Connect): connection refused");
    }
}
