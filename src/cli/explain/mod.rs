//! `bonafide explain`: a page on each reason, and the same pages as `docs/reasons.md`.

use clap::{Args as ClapArgs, builder::PossibleValuesParser, builder::TypedValueParser as _};

use super::{
    exit::{Exit, Failure},
    terminal::{self, LABEL, TITLE, styled},
};
use crate::domain::verdict::Reason;

/// What a reason means, why it happens and what to do.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The word in the message, such as `UnsignedProvenance`; without one, all of them are listed.
    #[arg(value_name = "REASON", ignore_case = true, hide_possible_values = true, value_parser = reasons())]
    reason: Option<Reason>,

    /// Prints `docs/reasons.md`.
    #[arg(long, hide = true, conflicts_with = "reason")]
    markdown: bool,
}

fn reasons() -> impl clap::builder::TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.as_str())).try_map(|word: String| {
        Reason::ALL
            .iter()
            .find(|reason| reason.as_str().eq_ignore_ascii_case(&word))
            .copied()
            .ok_or("there is no such reason")
    })
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let text = match args.reason {
        _ if args.markdown => markdown(),
        Some(reason) => shown(reason),
        None => list(),
    };
    terminal::print(&text)?;
    Ok(Exit::Ok)
}

/// The page on a reason, in Markdown.
pub const fn page(reason: Reason) -> &'static str {
    macro_rules! pages {
        ($($name:ident),* $(,)?) => {
            match reason { $(Reason::$name => include_str!(concat!(stringify!($name), ".md")),)* }
        };
    }
    pages!(
        NoProvenance,
        UnsignedProvenance,
        UntrustedSignature,
        WrongSigner,
        WrongSource,
        WrongBuilder,
        WrongSummary,
        ConditionFailed,
        ProvenanceTooOld,
        PlatformNotCovered,
        PlatformMissing,
        ImageNotFound,
        RegistryDenied,
        RegistryUnavailable,
        RegistryThrottled,
        DeadlineExceeded,
        NotAllInspected,
        MalformedAttestation,
        MalformedImage,
        InvalidReference,
        TooManyImages,
        InvalidPolicy,
        UnpinnedTag,
        UnmatchedImage,
    )
}

/// What a caller should make of it.
const fn kind(reason: Reason) -> &'static str {
    match reason {
        Reason::PlatformMissing | Reason::UnpinnedTag | Reason::UnmatchedImage => {
            "a warning or a definite no"
        }
        _ if reason.is_transient() => "could not be verified: 503, exit 2",
        _ => "a definite no: 403, exit 1",
    }
}

fn list() -> String {
    let width = Reason::ALL.iter().map(|reason| reason.as_str().len()).max().unwrap_or_default();
    let row = |reason: &Reason| {
        format!("{}  {}", styled(TITLE, &format!("{:width$}", reason.as_str())), reason.summary())
    };
    let mut lines: Vec<String> = Reason::ALL.iter().map(row).collect();
    lines.push("\nbonafide explain REASON says why it happens and what to do.".to_owned());
    lines.join("\n")
}

/// A page for a terminal: bold where Markdown has it, code as it is.
fn shown(reason: Reason) -> String {
    let title = format!("{} – {}", styled(TITLE, reason.as_str()), reason.summary());
    let mut lines = vec![title, kind(reason).to_owned(), String::new()];
    let mut code = false;
    for line in page(reason).lines() {
        if line.starts_with("```") {
            code = !code;
        } else if code {
            lines.push(format!("    {line}"));
        } else if let Some((title, rest)) = line.strip_prefix("**").and_then(|rest| rest.split_once("**")) {
            lines.push(format!("{}{rest}", styled(TITLE, title)));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.push(format!("\n{}", styled(LABEL, "All reasons: bonafide explain")));
    lines.join("\n")
}

/// `docs/reasons.md`: the table, and every page below it.
fn markdown() -> String {
    let head = "# Reasons\n\n\
        <!-- Written by `bonafide explain --markdown`; a test holds this file against the code. -->\n\n\
        The words by which Bonafide says why an image is not simply admitted. They are stable: they stand in messages, \
        in JSON, in metrics and in logs.\n\n\
        | Reason | Means | Answer |\n| --- | --- | --- |";
    let row = |reason: &Reason| {
        let anchor = reason.as_str().to_ascii_lowercase();
        format!("| [{reason}](#{anchor}) | {} | {} |", reason.summary(), kind(*reason))
    };
    let section = |reason: &Reason| format!("\n## {reason}\n\n{}", page(*reason).trim_end());
    let rows = Reason::ALL.iter().map(row).chain(Reason::ALL.iter().map(section));
    let lines: Vec<String> = std::iter::once(head.to_owned()).chain(rows).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_page_that_says_what_why_and_what_to_do() {
        for reason in Reason::ALL {
            for part in ["**What it means.** ", "**Why it happens.**", "**What to do.**"] {
                assert!(page(*reason).contains(part), "{reason} lacks {part}");
            }
            assert_eq!(page(*reason).matches("```").count() % 2, 0, "{reason} leaves a code block open");
        }
    }

    #[test]
    fn the_page_on_unsigned_provenance_has_the_whole_recipe() {
        let page = page(Reason::UnsignedProvenance);
        for part in [
            "actions/attest-build-provenance",
            "id-token: write",
            "attestations: write",
            "packages: write",
            "push-to-registry: true",
            "cosign attest",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn the_documentation_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reasons.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written.replace("\r\n", "\n") == markdown(),
            "docs/reasons.md is stale: bonafide explain --markdown > docs/reasons.md"
        );
    }
}
