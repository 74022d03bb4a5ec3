//! Logs: structured, on standard error, written by a thread of their own so that no review waits for a terminal or a pipe.
//!
//! Whatever somebody else chose is a field of type string: both formats escape those.

mod line;
mod sink;

use std::{cell::RefCell, env, io, sync::Arc};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::filter::Targets;

use self::sink::{Sink, Writing};
use super::metrics::Metrics;

/// How many bytes a thread keeps for its next line.
const LONGEST_KEPT: usize = 4096;

/// Where the client of the API server tells of each request that failed, without the cause. `cluster::client` tells that better.
const KUBE_REQUESTS: &str = "kube_client::client::builder";

/// The forms of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub struct Logs {
    sink: Sink,
    _writing: Writing,
}

impl Logs {
    /// Shows in `metrics` how many lines were dropped.
    pub fn count_in(&self, metrics: &Arc<Metrics>) {
        let sink = self.sink.clone();
        metrics.before_scrape(move |metrics| metrics.set_log_dropped(sink.dropped()));
    }
}

/// Begins to log; `RUST_LOG` overrides the level `info`. A subscriber that is there already stays.
///
/// # Errors
/// Where there can be no thread that writes.
pub fn init(format: Format) -> io::Result<Logs> {
    let (sink, writing) = Sink::new(io::stderr())?;
    // An error means that a subscriber is set: a test's, or that of a program which embeds this one.
    let _ = tracing::dispatcher::set_global_default(lines(format, {
        let sink = sink.clone();
        move |line| sink.take(line)
    }));
    Ok(Logs { sink, _writing: writing })
}

/// Lines of a form; `write` is given each in one piece.
pub fn lines(format: Format, write: impl Fn(&[u8]) + Send + Sync + 'static) -> Dispatch {
    let asked = env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    let usual =
        || Targets::new().with_default(LevelFilter::INFO).with_target(KUBE_REQUESTS, LevelFilter::OFF);
    let filter = asked.unwrap_or_else(usual);
    Dispatch::new(Lines { format, filter, write })
}

/// Writes events, and nothing of the spans around them: no event here depends on one.
struct Lines<F> {
    format: Format,
    filter: Targets,
    write: F,
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Subscriber for Lines<F> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.filter.iter().map(|(_, level)| level).chain(self.filter.default_level()).max()
    }

    fn event(&self, event: &Event<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        // What is shown in a line may itself log one.
        let mut line = LINE.take();
        line.clear();
        line::write(self.format, event, &mut line);
        (self.write)(&line);
        line.shrink_to(LONGEST_KEPT);
        LINE.set(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
