//! Writing to people and to pipes: colours only on a terminal, and a reader that has gone away is no error.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};

use super::exit::Failure;

/// What is good.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What is not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What deserves a look.
pub const CAUTION: Style = AnsiColor::Yellow.on_default().bold();
/// Names of things.
pub const LABEL: Style = Style::new().dimmed();
/// Titles.
pub const TITLE: Style = Style::new().bold();

/// `text` in `style`; the style is taken out again where the output is no terminal.
pub fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes to standard output, with a line's end.
///
/// # Errors
/// When it cannot be written, other than because nobody reads it any more (`bonafide … | head`).
pub fn print(text: &str) -> Result<(), Failure> {
    write(&mut anstream::stdout(), text)
        .map_err(|error| Failure::new(format!("standard output cannot be written: {error}")))
}

/// Writes to standard error, with a line's end. Where even that fails there is nobody left to tell.
pub fn tell(text: &str) {
    let _ = write(&mut anstream::stderr(), text);
}

/// Tells of a failure.
pub fn tell_failure(failure: &Failure) {
    let hint = failure.advice().map(|hint| format!("\n  {} {hint}", styled(TITLE, "hint:")));
    tell(&format!("{} {failure}{}", styled(BAD, "error:"), hint.unwrap_or_default()));
}

/// Tells of something worth a look.
pub fn tell_warning(text: &str) {
    tell(&format!("{} {text}", styled(CAUTION, "warning:")));
}

fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = to.write_all(text.as_bytes()).and_then(|()| to.write_all(end.as_bytes()));
    match written.and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A text that somebody else chose, safe to show: without control characters, which a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        assert!(write(&mut Gone(io::ErrorKind::BrokenPipe), "x").is_ok());
        assert!(write(&mut Gone(io::ErrorKind::StorageFull), "x").is_err());
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\nc");
    }
}
