//! Following one kind of object: its complete list, then its changes, for ever. Whatever goes wrong is tried again soon; until it
//! goes well again, what was known stays known.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::{self, Error, Event};

/// How long the server keeps a watch. It goes on where it ended, so a short one costs little, and one whose connection died in
/// silence is noticed as soon as this is over.
pub(super) const WATCH_SECONDS: u32 = 60;

/// What happened to the objects of a kind, each as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// These are all.
    All(Vec<T>),
    /// This is there, new or changed.
    One(T),
    /// This is gone.
    Gone(T),
    /// They cannot be followed at the moment.
    Lost(String),
    /// The API server does not have the kind: its definition is not installed.
    Absent(String),
}

/// The settings of each watch here.
pub fn settings() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Follows `events` for ever; `convert` keeps of an object what matters, before a whole list of them is held in memory.
pub async fn follow<K, T>(
    events: impl Stream<Item = Result<Event<K>, Error>> + Send,
    convert: impl Fn(K) -> T,
    mut tell: impl FnMut(Change<T>),
) where
    K: Debug + Send,
{
    let mut list: Option<Vec<T>> = None;
    let mut patience = Patience::default();
    futures::pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            // It begins anew, which is not yet to go well.
            Ok(Event::Init) => {
                list = Some(Vec::new());
                continue;
            }
            Ok(Event::InitApply(object)) => {
                list.get_or_insert_default().push(convert(object));
                continue;
            }
            Ok(Event::InitDone) => tell(Change::All(list.take().unwrap_or_default())),
            Ok(Event::Apply(object)) => tell(Change::One(convert(object))),
            Ok(Event::Delete(object)) => tell(Change::Gone(convert(object))),
            Err(error) => {
                let trouble = Trouble::of(&error);
                let words = error.to_string();
                tell(if trouble == Trouble::Absent { Change::Absent(words) } else { Change::Lost(words) });
                tokio::time::sleep(patience.next_wait(trouble)).await;
                continue;
            }
        }
        patience = Patience::default();
    }
}

/// What went wrong, as far as it says when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trouble {
    /// 404: the API server does not have the kind.
    Absent,
    /// 403: a right is missing.
    Forbidden,
    /// 410: the watch must begin with another list.
    Outdated,
    #[default]
    Other,
}

impl Trouble {
    fn of(error: &Error) -> Self {
        match error {
            Error::InitialListFailed(kube::Error::Api(status))
            | Error::WatchStartFailed(kube::Error::Api(status))
            | Error::WatchError(status) => Self::of_status(status.code),
            _ => Self::Other,
        }
    }

    pub(super) const fn of_status(code: u16) -> Self {
        match code {
            403 => Self::Forbidden,
            404 => Self::Absent,
            410 => Self::Outdated,
            _ => Self::Other,
        }
    }
}

/// How long to wait before the next try. Policies take effect within two seconds, also those of a kind that was just installed, and
/// those that Bonafide was just allowed to list.
#[derive(Debug, Default)]
pub(super) struct Patience {
    trouble: Trouble,
    tries: u32,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(100);
    const DOUBLINGS: u32 = 4;
    /// Somebody installs or allows it at any moment.
    const FEWER_DOUBLINGS: u32 = 3;

    pub(super) fn next_wait(&mut self, trouble: Trouble) -> Duration {
        if self.trouble != trouble {
            *self = Self { trouble, tries: 0 };
        }
        let most = if trouble == Trouble::Other { Self::DOUBLINGS } else { Self::FEWER_DOUBLINGS };
        let wait = Self::FIRST.saturating_mul(1 << self.tries.min(most));
        self.tries = self.tries.saturating_add(1).min(most);
        wait
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn told(events: Vec<Result<Event<u8>, Error>>) -> Vec<Change<u32>> {
        let mut told = Vec::new();
        follow(stream::iter(events), |object| u32::from(object) * 10, |change| told.push(change)).await;
        told
    }

    fn lost() -> Error {
        Error::NoResourceVersion
    }

    #[tokio::test]
    async fn a_list_is_told_when_it_is_whole() {
        let events = vec![Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitApply(2))];
        assert_eq!(told(events).await, []);
        let events =
            vec![Ok(Event::Init), Ok(Event::InitApply(1)), Ok(Event::InitApply(2)), Ok(Event::InitDone)];
        assert_eq!(told(events).await, [Change::All(vec![10, 20])]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_broke_off_leaves_nothing_behind() {
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(1)),
            Err(lost()),
            Ok(Event::Init),
            Ok(Event::InitApply(2)),
            Ok(Event::InitDone),
            Ok(Event::Apply(3)),
            Ok(Event::Delete(2)),
        ];
        let told = told(events).await;
        assert!(matches!(told[0], Change::Lost(_)));
        assert_eq!(told[1..], [Change::All(vec![20]), Change::One(30), Change::Gone(20)]);
    }

    #[tokio::test(start_paused = true)]
    async fn e3_a_kind_that_is_missing_is_told_apart_and_asked_for_at_least_once_a_second() {
        let answer = |code: u16| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            Err(Error::InitialListFailed(kube::Error::Api(Box::new(status))))
        };
        for (code, absent) in [(404, true), (403, false), (401, false), (500, false)] {
            let told = told(vec![answer(code)]).await;
            assert_eq!(matches!(told[..], [Change::Absent(_)]), absent, "{code}");
        }
        let waited = async |codes: Vec<u16>| {
            let start = tokio::time::Instant::now();
            told(codes.into_iter().map(answer).collect()).await;
            start.elapsed().as_millis()
        };
        for code in [403, 404] {
            assert_eq!(waited(vec![code; 9]).await, 100 + 200 + 400 + 6 * 800);
        }
        // The definition is back, and the watch must begin with a list: that is no reason to wait longer.
        assert_eq!(waited(vec![404, 404, 404, 404, 410]).await, 100 + 200 + 400 + 800 + 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_to_a_bound_while_nothing_goes_well() {
        // Each try begins a list, and fails.
        let tries = |count: usize| (0..count).flat_map(|_| [Ok(Event::Init), Err(lost())]);
        let waited = async |events: Vec<Result<Event<u8>, Error>>| {
            let start = tokio::time::Instant::now();
            told(events).await;
            start.elapsed().as_millis()
        };
        assert_eq!(waited(tries(7).collect()).await, 100 + 200 + 400 + 800 + 3 * 1600);
        let once_well = tries(3).chain([Ok(Event::Init), Ok(Event::InitDone)]).chain(tries(1));
        assert_eq!(waited(once_well.collect()).await, 100 + 200 + 400 + 100);
    }
}
