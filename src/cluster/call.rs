//! Calls to the API server: none waits forever, and what keeps failing is said at a rate that people can read.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// How long a call may take. None of them is large.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How long until a trouble that goes on is said again.
const AGAIN: Duration = Duration::from_mins(1);

/// Awaits a call for at most `limit`.
///
/// # Errors
/// Those of the call, and one where it took too long.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    let late = |_| kube::Error::Service(format!("no answer within {limit:?}").into());
    tokio::time::timeout(limit, call).await.map_err(late)?
}

/// What an error says to people: the API server's own words where it answered.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(error) => format!("the API server cannot be reached: {error}"),
        error => error.to_string(),
    }
}

/// Something that may go wrong again and again: it is said when it begins or changes, once a minute while it lasts, and when it is over.
#[derive(Debug)]
pub struct Trouble {
    /// What cannot be done.
    what: &'static str,
    said: Option<(String, Instant)>,
}

impl Trouble {
    /// Nothing is wrong yet. `what` reads after "cannot".
    pub const fn new(what: &'static str) -> Self {
        Self { what, said: None }
    }

    /// It failed for this reason.
    pub fn goes_on(&mut self, why: &dyn fmt::Display) {
        let why = why.to_string();
        if self.is_worth_saying(&why, Instant::now()) {
            tracing::warn!(why, "cannot {}; it is tried again", self.what);
        }
    }

    /// It worked.
    pub fn is_over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("can {} again", self.what);
        }
    }

    fn is_worth_saying(&mut self, why: &str, now: Instant) -> bool {
        let known =
            self.said.as_ref().is_some_and(|(last, at)| last == why && now.duration_since(*at) < AGAIN);
        if !known {
            self.said = Some((why.to_owned(), now));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_said_once_a_minute_and_when_it_changes() {
        let start = Instant::now();
        let mut trouble = Trouble::new("do it");
        let said: Vec<bool> = [("a", 0), ("a", 59), ("b", 59), ("b", 60), ("b", 118), ("b", 119)]
            .iter()
            .map(|(why, second)| trouble.is_worth_saying(why, start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(said, [true, false, true, false, false, true]);
    }

    #[test]
    fn a_trouble_that_was_over_is_said_again() {
        let now = Instant::now();
        let mut trouble = Trouble::new("do it");
        assert!(trouble.is_worth_saying("a", now));
        trouble.is_over();
        assert!(trouble.is_worth_saying("a", now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends() {
        let never = within(LIMIT, std::future::pending::<Result<(), kube::Error>>()).await;
        assert_eq!(words(&never.unwrap_err()), "the API server cannot be reached: no answer within 5s");
        assert!(within(LIMIT, async { Ok(()) }).await.is_ok());
    }
}
