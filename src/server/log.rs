//! Logs: structured, on standard error, written by a thread of their own so that no review waits for a terminal or a pipe.
//!
//! Whatever somebody else chose is a field of type string: both formats escape those.

mod line;
mod sink;

use std::{io, sync::Arc};

use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
};

use self::{
    line::Line,
    sink::{Sink, Writing},
};
use super::metrics::Metrics;

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
    let _ = tracing::dispatcher::set_global_default(lines(format, sink.clone()));
    Ok(Logs { sink, _writing: writing })
}

/// Lines of a form, to a writer.
pub fn lines<W>(format: Format, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = fmt::layer().event_format(Line(format)).with_writer(writer);
    Dispatch::new(tracing_subscriber::registry().with(filter).with(layer))
}
