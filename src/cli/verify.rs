//! `bonafide verify`: one image, judged by the policies of files or of flags.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args as ClapArgs;

use super::{
    Output,
    exit::{Exit, Failure},
    files,
    inline::InlineArgs,
    json, roots, sources,
    sources::{SourceArgs, platforms},
    terminal, text,
    wait::{self, Patience},
};
use crate::{
    domain::{
        platform::Platform,
        policy::Scope,
        reference::{Reference, Repository},
        repeated_keys::has_repeated_key,
        verdict::{ImageVerdict, Outcome},
    },
    gather::ports::Snapshot,
};

/// Judges one image.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image, as in a container's `image` field.
    #[arg(value_name = "IMAGE")]
    image: String,

    /// A policy file, or a folder of them; repeatable. All that name IMAGE must hold, whatever namespace they are for.
    #[arg(
        long,
        value_name = "FILE_OR_DIR",
        conflicts_with_all = [
            "repository", "workflow", "workflow_ref", "git_ref", "trigger", "issuer", "identity", "identity_regex",
            "key", "transparency_log", "root", "attestation_repository", "source_uri", "source_branch", "source_tag",
            "source_versioned_tag", "builder_id", "build_workflow_input", "predicate_type",
        ]
    )]
    policy: Vec<PathBuf>,

    #[command(flatten)]
    inline: InlineArgs,

    /// A platform that must be covered; repeatable [default: every one the image has].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Answer")]
    platform: Vec<Platform>,

    /// Asks again until the image is admitted, for so long: attestations appear 10–30 s after the push.
    #[arg(long, value_name = "DURATION", value_parser = sources::duration, help_heading = "Answer")]
    wait: Option<Duration>,

    /// Prints the predicates that it is admitted on, one JSON document a line, in place of the answer.
    #[arg(long, conflicts_with = "output", help_heading = "Answer")]
    print_provenance: bool,

    /// Asks nobody: image and attestations come from --layout, and the trust roots that are built in or given suffice.
    #[arg(long, requires = "layout", help_heading = "Answer")]
    offline: bool,

    /// The form of the answer.
    #[arg(long, short, value_name = "FORM", value_enum, default_value = "text", help_heading = "Answer")]
    output: Output,

    #[command(flatten)]
    sources: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  bonafide verify ghcr.io/owner/app:v1 --repository owner/app --ref 'refs/tags/${image.tag}'
  bonafide verify ghcr.io/owner/app@sha256:… --policy policies/ --platform linux/arm64
  bonafide verify ghcr.io/owner/app:v1 --policy policy.yaml --wait 2m --output json
  bonafide verify registry.example/app:v1 --key cosign.pub --transparency-log optional

Exit codes: 0 admitted, 1 denied, 2 could not be verified, 64 bad usage or invalid policy.";

/// Runs the command.
///
/// # Errors
/// Where nothing can be judged: bad usage, an invalid policy, none that names the image.
pub async fn run(args: &Args) -> Result<Exit, Failure> {
    let reference: Reference = args.image.parse().map_err(|error| {
        Failure::new(format!("IMAGE {:?}: {error}", args.image)).hint("registry/repository[:tag][@sha256:…]")
    })?;
    let repository = reference.repository();
    let files::Given { policies, roots } = policies(args, repository)?;
    if policies.matching(Scope::Everywhere, repository).is_empty() {
        let names: Vec<String> = policies.entries().iter().map(|entry| entry.id().to_string()).collect();
        return Err(Failure::new(format!("no given policy covers {repository}: nothing would be verified"))
            .hint(format!("images.include of {} must name it", names.join(", "))));
    }
    let source = args.sources.open(&roots)?;
    source.fetch().await?;
    roots::check(&policies, &source.trust)?;
    source.check(&reference).await?;
    let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
    let platforms = platforms(&args.platform);
    let patience = Patience { wait: args.wait, timeout: args.sources.timeout };
    let verdict = wait::until_settled(patience, &args.image, async |deadline| {
        // A reviewer keeps a no for some seconds; each look here is a new one.
        let reviewer = source.reviewer();
        reviewer.verify_image(&snapshot, Scope::Everywhere, &args.image, &platforms, deadline).await
    });
    let verdict = verdict.await;
    report(args, &verdict)?;
    Ok(Exit::from(verdict.outcome))
}

fn policies(args: &Args, image: &Repository) -> Result<files::Given, Failure> {
    match (args.policy.as_slice(), args.inline.is_given()) {
        ([], true) => Ok(files::Given {
            policies: files::inline_policy(&args.inline, image)?,
            ..files::Given::default()
        }),
        ([], false) => Err(Failure::new("who must have signed the image is not said").hint(
            "give --policy FILE_OR_DIR, --repository owner/repo, or --key FILE; see bonafide verify --help",
        )),
        (files, _) => files::valid(files),
    }
}

fn report(args: &Args, verdict: &ImageVerdict) -> Result<(), Failure> {
    for warning in text::warnings(None, verdict) {
        terminal::tell_warning(&warning);
    }
    if args.print_provenance && verdict.outcome == Outcome::Allow {
        let mut lines: Vec<String> = Vec::new();
        for proof in &verdict.proofs {
            let summary = proof.summary.as_ref().map(|summary| &summary.predicate);
            let predicate = proof.other.as_ref().or(summary).unwrap_or(&proof.provenance.predicate);
            // What can be read in two ways is shown as it was signed.
            let read = predicate.read().ok().filter(|_| !has_repeated_key(predicate.text()));
            let line = read.map_or_else(|| predicate.text().to_owned(), |read| read.to_string());
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        return terminal::print(&lines.join("\n"));
    }
    match args.output {
        Output::Text => terminal::print(&text::verdict(None, verdict)),
        Output::Json => terminal::print(&json::Document::of_image(verdict).render()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for (flags, fits) in [
            (&["--policy", "x"][..], true),
            (&["--policy", "x", "--policy", "y"], true),
            (&["--repository", "o/a"], true),
            (&["--repository", "o/a", "--identity", "me"], true),
            (
                &["--repository", "o/a", "--workflow", ".github/workflows/a.yml", "--ref", "a", "--ref", "b"],
                true,
            ),
            (&["--policy", "x", "--repository", "o/a"], false),
            (&["--policy", "x", "--identity", "me"], false),
            (&["--workflow", "x"], false),
            (&["--ref", "x"], false),
            (&["--identity", "me", "--identity-regex", "me"], false),
            (&["--repository", "o/a", "--workflow", "w", "--identity", "me"], false),
            (&["--key", "k.pub"], true),
            (&["--key", "k.pub", "--transparency-log", "optional", "--root", "corp"], true),
            (&["--key", "k.pub", "--repository", "o/a"], false),
            (&["--repository", "o/a", "--transparency-log", "optional"], false),
            (&["--policy", "x", "--root", "corp"], false),
            (&["--repository", "o/a", "--attestation-repository", "ghcr.io/o/b"], true),
            (&["--policy", "x", "--attestation-repository", "ghcr.io/o/b"], false),
            (&["--repository", "o/a", "--platform", "amd64"], false),
            (&["--repository", "o/a", "--wait", "30"], false),
            (&["--repository", "o/a", "--timeout", "0s"], false),
            (&["--repository", "o/a", "--output", "xml"], false),
            (&["--repository", "o/a", "--layout", "d", "--docker-config", "f"], false),
        ] {
            let line = ["bonafide", "verify", "ghcr.io/o/a"].iter().chain(flags);
            assert_eq!(Cli::try_parse_from(line).is_ok(), fits, "{flags:?}");
        }
    }
}
