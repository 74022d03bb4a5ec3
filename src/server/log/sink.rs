//! Where lines of log go: a buffer in memory, which a thread writes out some times a second. No review waits for a terminal or a
//! pipe, and the thread is woken once for a whole burst of lines – woken for each, it takes a fifth of the webhook's processor time.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// How long lines may wait for others to be written with.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the end waits for whoever reads the log.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most that waits to be written; what comes on top is dropped and counted.
const LIMIT: usize = 8 << 20;

/// Takes lines.
#[derive(Debug, Clone, Default)]
pub struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    woken: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    is_ending: bool,
}

/// The thread that writes; dropped, it writes what is left.
#[derive(Debug)]
pub struct Writing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// A sink, and the thread that writes its lines to `out`.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn new(out: impl Write + Send + 'static) -> io::Result<(Self, Writing)> {
        let sink = Self::default();
        let shared = Arc::clone(&sink.0);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(out))?;
        let writing = Writing { shared: Arc::clone(&sink.0), thread: Some(thread) };
        Ok((sink, writing))
    }

    /// Takes one line, whole.
    pub fn take(&self, line: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.lines.len().saturating_add(line.len()) > LIMIT {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.0.woken.notify_one();
        }
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn write_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.waiting.lock();
            while waiting.lines.is_empty() && !waiting.is_ending {
                self.woken.wait(&mut waiting);
            }
            if !waiting.is_ending {
                // The end need not be waited for, and the lines of one burst are written at once.
                self.woken.wait_for(&mut waiting, PAUSE);
            }
            std::mem::swap(&mut lines, &mut waiting.lines);
            let is_over = waiting.is_ending && lines.is_empty();
            drop(waiting);
            if is_over {
                return;
            }
            // Where nobody takes the lines there is nobody to tell.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.waiting.lock().is_ending = true;
        self.shared.woken.notify_one();
        let ends_at = Instant::now() + PATIENCE;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < ends_at {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Tells each write, and waits to be allowed to.
    struct Slow(mpsc::Sender<Vec<u8>>, Arc<Mutex<()>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _allowed = self.1.lock();
            self.0.send(bytes.to_owned()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_whole_in_order_and_what_is_left_comes_at_the_end() {
        let (sender, written) = mpsc::channel();
        let (sink, writing) = Sink::new(Slow(sender, Arc::default())).unwrap();
        for line in ["one\n", "two\n"] {
            sink.take(line.as_bytes());
        }
        let mut text = written.recv_timeout(Duration::from_secs(10)).unwrap();
        sink.take(b"three\n");
        drop(writing);
        text.extend(written.try_iter().flatten());
        assert_eq!(String::from_utf8(text).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(sink.dropped(), 0);
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_neither_memory_nor_time() {
        let (sender, written) = mpsc::channel();
        let stuck = Arc::new(Mutex::new(()));
        let held = stuck.lock();
        let (sink, writing) = Sink::new(Slow(sender, Arc::clone(&stuck))).unwrap();
        let line = vec![b'x'; LIMIT / 4];
        for _ in 0..12 {
            sink.take(&line);
        }
        assert!(sink.dropped() >= 4, "{}", sink.dropped());
        drop(held);
        drop(writing);
        let came: usize = written.try_iter().map(|bytes| bytes.len()).sum();
        assert_eq!(came, (12 - usize::try_from(sink.dropped()).unwrap()) * line.len());
    }
}
