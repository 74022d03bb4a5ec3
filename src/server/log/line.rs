//! How a line of log is written. There is one for every review, and `tracing_subscriber`'s own formats, which pass each field
//! through the general machinery of [`fmt`], cost as much as half of the rest of a review.

use std::{cell::Cell, fmt, time::SystemTime};

use jiff::Timestamp;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::Format;

/// Writes events as lines of a format, each with its time, its level and its fields in order.
pub struct Line(pub Format);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level();
        let mut fields = Fields { format: self.0, writer: &mut writer, result: Ok(()) };
        match self.0 {
            Format::Text => {
                time(fields.writer)?;
                write!(fields.writer, " {level:>5}")?;
            }
            Format::Json => {
                fields.writer.write_str("{\"timestamp\":\"")?;
                time(fields.writer)?;
                write!(fields.writer, "\",\"level\":\"{level}\"")?;
            }
        }
        event.record(&mut fields);
        fields.result?;
        writer.write_str(match self.0 {
            Format::Text => "\n",
            Format::Json => "}\n",
        })
    }
}

/// The fields of an event; the first error ends the line.
struct Fields<'w, 'o> {
    format: Format,
    writer: &'w mut Writer<'o>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn name(&mut self, name: &str) -> fmt::Result {
        self.writer.write_str(match self.format {
            Format::Text => " ",
            Format::Json => ",\"",
        })?;
        self.writer.write_str(name)?;
        self.writer.write_str(match self.format {
            Format::Text => "=",
            Format::Json => "\":",
        })
    }

    fn string(&mut self, name: &str, value: &str) -> fmt::Result {
        // The message is mostly a text of ours, which people need not see in quotes; libraries may quote others in theirs.
        if self.format == Format::Text && name == "message" && !value.contains(char::is_control) {
            self.writer.write_char(' ')?;
            return self.writer.write_str(value);
        }
        self.name(name)?;
        if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
            self.writer.write_char('"')?;
            self.writer.write_str(value)?;
            return self.writer.write_char('"');
        }
        match self.format {
            Format::Text => write!(self.writer, "{value:?}"),
            Format::Json => self.writer.write_str(&serde_json::to_string(value).map_err(|_| fmt::Error)?),
        }
    }

    fn bare(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        self.writer.write_str(value)
    }

    fn number(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        self.name(name)?;
        write!(self.writer, "{value}")
    }

    /// Does the next thing unless one failed before.
    fn then(&mut self, next: impl FnOnce(&mut Self) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = next(self);
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.then(|fields| fields.string(field.name(), value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.then(|fields| fields.bare(field.name(), if value { "true" } else { "false" }));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.then(|fields| fields.number(field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.then(|fields| fields.number(field.name(), value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.then(|fields| fields.string(field.name(), &format!("{value:?}")));
    }
}

/// The time of day to the microsecond, in UTC. Up to the second it is the same for many lines.
fn time(writer: &mut Writer<'_>) -> fmt::Result {
    thread_local! {
        static SECOND: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
    }
    /// That of `2026-11-23T07:05:57`.
    const LENGTH: usize = 19;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = SECOND.get();
    if second != since.as_secs() {
        second = since.as_secs();
        let shown = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        let shown = shown.unwrap_or_default().to_string();
        if let Some(shown) = shown.as_bytes().first_chunk() {
            text = *shown;
        }
        SECOND.set((second, text));
    }
    writer.write_str(std::str::from_utf8(&text).unwrap_or_default())?;
    let mut fraction = *b".000000Z";
    let mut left = since.subsec_micros();
    for digit in fraction.iter_mut().skip(1).take(6).rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
    writer.write_str(std::str::from_utf8(&fraction).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::server::log::lines;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format) -> String {
        let written = Written::default();
        let writer = written.clone();
        tracing::dispatcher::with_default(&lines(format, move || writer.clone()), || {
            let error = io::Error::other("a\"b");
            tracing::warn!(
                plain = "x y",
                odd = "a\"\\\n\u{1b}[31mé",
                n = 7_u64,
                m = -1_i64,
                on = true,
                ?error,
                "said"
            );
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_of_text_escapes_what_others_chose() {
        let line = logged(Format::Text);
        let (time, rest) = line.split_at(27);
        time.parse::<Timestamp>().unwrap();
        assert_eq!(
            rest,
            "  WARN said plain=\"x y\" odd=\"a\\\"\\\\\\n\\u{1b}[31mé\" n=7 m=-1 on=true error=\"Custom { kind: Other, error: \\\"a\\\\\\\"b\\\" }\"\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let mut line: Value = serde_json::from_str(&logged(Format::Json)).unwrap();
        let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        let age = Timestamp::now().duration_since(time.as_str().unwrap().parse().unwrap());
        assert!((0..60).contains(&age.as_secs()), "{time}");
        assert_eq!(
            line,
            json!({"level": "WARN", "message": "said", "plain": "x y", "odd": "a\"\\\n\u{1b}[31mé", "n": 7, "m": -1, "on": true,
                "error": "Custom { kind: Other, error: \"a\\\"b\" }"})
        );
    }
}
