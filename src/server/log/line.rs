//! How a line of log is written. There is one for every review, and `tracing_subscriber`'s own formats, which keep spans and pass each
//! field through the general machinery of [`fmt`], cost as much as half of the rest of a review.

use std::{cell::Cell, fmt, time::SystemTime};

use jiff::Timestamp;
use tracing::{
    Event,
    field::{Field, Visit},
};

use super::Format;

/// Appends an event as a line of a format, with its time, its level and its fields in order.
pub fn write(format: Format, event: &Event<'_>, line: &mut Vec<u8>) {
    let level = event.metadata().level().as_str();
    match format {
        Format::Text => {
            time(line);
            // Right-aligned, as the longest has five letters.
            line.extend_from_slice("      ".get(level.len()..).unwrap_or(" ").as_bytes());
            line.extend_from_slice(level.as_bytes());
        }
        Format::Json => {
            line.extend_from_slice(b"{\"timestamp\":\"");
            time(line);
            line.extend_from_slice(b"\",\"level\":\"");
            line.extend_from_slice(level.as_bytes());
            line.push(b'"');
        }
    }
    event.record(&mut Fields { format, line });
    line.extend_from_slice(match format {
        Format::Text => b"\n",
        Format::Json => b"}\n",
    });
}

/// The fields of an event.
struct Fields<'l> {
    format: Format,
    line: &'l mut Vec<u8>,
}

/// Whether a string stands for itself between quotes, in both formats.
fn is_plain(value: &str) -> bool {
    // Without an early end, so that many bytes are looked at in one step.
    value.bytes().fold(true, |plain, byte| plain & matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~'))
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        let [before, after]: [&[u8]; 2] = match self.format {
            Format::Text => [b" ", b"="],
            Format::Json => [b",\"", b"\":"],
        };
        self.line.extend_from_slice(before);
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(after);
    }

    fn string(&mut self, name: &str, value: &str) {
        // The message is mostly a text of ours, which people need not see in quotes; libraries may quote others in theirs.
        if self.format == Format::Text && name == "message" && !value.contains(char::is_control) {
            self.line.push(b' ');
            self.line.extend_from_slice(value.as_bytes());
            return;
        }
        if is_plain(value) {
            self.name(name);
            self.line.push(b'"');
            self.line.extend_from_slice(value.as_bytes());
            self.line.push(b'"');
            return;
        }
        let escaped = match self.format {
            Format::Text => format!("{value:?}"),
            // Strings always have a JSON form.
            Format::Json => serde_json::to_string(value).unwrap_or_default(),
        };
        self.bare(name, &escaped);
    }

    fn bare(&mut self, name: &str, value: &str) {
        self.name(name);
        self.line.extend_from_slice(value.as_bytes());
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.string(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), if value { "true" } else { "false" });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), itoa::Buffer::new().format(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.string(field.name(), &format!("{value:?}"));
    }
}

/// The time of day to the microsecond, in UTC. Up to the second it is the same for many lines.
fn time(line: &mut Vec<u8>) {
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
    line.extend_from_slice(&text);
    let mut fraction = *b".000000Z";
    let mut left = since.subsec_micros();
    for digit in fraction.iter_mut().skip(1).take(6).rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
    line.extend_from_slice(&fraction);
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

    fn logged(format: Format) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&written);
        tracing::dispatcher::with_default(
            &lines(format, move |line| writer.lock().unwrap().extend_from_slice(line)),
            || {
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
            },
        );
        let bytes = written.lock().unwrap().clone();
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
