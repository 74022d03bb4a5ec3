//! Following one kind of object: its complete list, then its changes, for ever. Whatever goes wrong is tried again soon; until it
//! goes well again, what was known stays known.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::{self, Error, Event};

/// How long the server keeps a watch. It goes on where it ended, so a short one costs little, and one whose connection died in
/// silence is noticed as soon as this is over.
const WATCH_SECONDS: u32 = 60;

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
    /// The same: the API server has no such kind, or does not let us see it. It may not have it for long, or ever.
    Refused(String),
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
                let refused = is_refused(&error);
                let words = error.to_string();
                tell(if refused { Change::Refused(words) } else { Change::Lost(words) });
                tokio::time::sleep(patience.next_wait(refused)).await;
                continue;
            }
        }
        patience = Patience::default();
    }
}

/// Whether the API server says that there is nothing to follow, or not for us.
fn is_refused(error: &Error) -> bool {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 403 | 404)
        }
        _ => false,
    }
}

/// How long to wait before trying again: not long, for policies take effect within a second of being there.
#[derive(Debug, Default)]
struct Patience(u32);

impl Patience {
    const FIRST: Duration = Duration::from_millis(100);
    const DOUBLINGS: u32 = 4;
    /// What somebody must install or allow first is not there within the second.
    const REFUSED: u32 = 7;

    fn next_wait(&mut self, refused: bool) -> Duration {
        let most = if refused { Self::REFUSED } else { Self::DOUBLINGS };
        let wait = Self::FIRST.saturating_mul(1 << self.0.min(most));
        self.0 = self.0.saturating_add(1).min(most);
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
    async fn what_is_not_there_is_told_apart_and_asked_for_less_and_less() {
        let answer = |code: u16| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            Err(Error::InitialListFailed(kube::Error::Api(Box::new(status))))
        };
        for (code, refused) in [(404, true), (403, true), (401, false), (500, false)] {
            let told = told(vec![answer(code)]).await;
            assert_eq!(matches!(told[..], [Change::Refused(_)]), refused, "{code}");
        }
        let start = tokio::time::Instant::now();
        told((0..9).map(|_| answer(404)).collect()).await;
        assert_eq!(start.elapsed().as_millis(), 100 * 255 + 12_800);
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
