//! Waiting for what a cluster does in its own time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for a slow machine, and short enough to be waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until there is an answer. An `Err` is what was seen instead, for the message of a test that waited in vain.
///
/// # Panics
/// There was no answer within a minute.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) if began.elapsed() > PATIENCE => {
                panic!("waited {}s in vain for {what}; seen last: {seen}", PATIENCE.as_secs())
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
