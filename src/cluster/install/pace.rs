//! How often the same is written again: somebody who undoes it every time must not be answered as fast as he can.

use std::time::Duration;

use tokio::time::Instant;

use super::entries::Entries;

/// The pause after the first repair, and the shortest.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// How long peace must last until it counts as peace.
const PEACE: Duration = Duration::from_mins(5);

/// When what was written last, and how long to wait until it is written again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Last>,
    repairs: bool,
}

#[derive(Debug)]
struct Last {
    wanted: Entries,
    at: Instant,
    pause: Duration,
}

impl Pace {
    /// Whether this may be written now; then it counts as written.
    pub(super) fn may_write(&mut self, wanted: &Entries, now: Instant) -> bool {
        let same = self.last.take_if(|last| last.wanted == *wanted);
        self.repairs = same.is_some();
        let pause = match same {
            Some(last) if now.duration_since(last.at) < last.pause => {
                self.last = Some(last);
                return false;
            }
            Some(last) if now.duration_since(last.at) < PEACE => (last.pause * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(Last { wanted: wanted.clone(), at: now, pause });
        true
    }

    /// Whether what may be written was there already.
    pub(super) const fn is_repair(&self) -> bool {
        self.repairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_same_is_written_at_ever_longer_intervals() {
        let (begin, wanted) = (Instant::now(), Entries::default());
        let mut pace = Pace::default();
        let written: Vec<u64> = (0..=120)
            .filter(|second| pace.may_write(&wanted, begin + SECOND * u32::try_from(*second).unwrap()))
            .collect();
        assert_eq!(written, [0, 2, 6, 14, 30, 60, 90, 120]);
        assert!(pace.is_repair());
        assert!(pace.may_write(&wanted, begin + SECOND * 420), "after a time of peace");
        assert!(pace.may_write(&wanted, begin + SECOND * 422));
    }
}
