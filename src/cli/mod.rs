//! The command line: one file per subcommand. Names of flags and exit codes are a contract.
//!
//! A command parses its flags into types, asks the library, and renders. What is decided is never decided here.

pub mod exit;
pub mod explain;
pub mod files;
pub mod inline;
pub mod json;
pub mod manifests;
pub mod objects;
pub mod policy;
pub mod review;
pub mod roots;
pub mod serve;
pub mod sources;
pub mod terminal;
pub mod text;
pub mod verify;
pub mod wait;
pub mod webhooks;

use std::process::ExitCode;

use clap::{
    Parser, Subcommand, ValueEnum,
    builder::styling::{AnsiColor, Styles},
    error::ErrorKind,
};

use exit::{Exit, Failure};

/// Every command-line argument of `bonafide`.
#[derive(Debug, Parser)]
#[command(
    name = "bonafide",
    version = VERSION,
    about = "Admits a workload only when every image it may run carries signed SLSA provenance",
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    infer_subcommands = false,
    styles = STYLES,
    max_term_width = 110
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judges one image: is its provenance signed by whom a policy names?
    Verify(Box<verify::Args>),
    /// Judges manifests or an admission review, as the webhook would.
    Review(Box<review::Args>),
    /// Runs the webhook, in a cluster (--cluster) or without one.
    Serve(Box<serve::Args>),
    /// Works on policy files.
    Policy(policy::Args),
    /// Prints what Bonafide is installed with: custom resource definitions, webhook configurations.
    Manifests(manifests::Args),
    /// Says what a reason means and what to do about it.
    Explain(explain::Args),
}

/// In which form an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one document.
    Json,
}

/// The version, with the state of the repository it was built from where that is known.
pub const VERSION: &str = if env!("BONAFIDE_GIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("BONAFIDE_GIT"), ")")
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  Is this image built by that repository?
      bonafide verify ghcr.io/owner/app:v1 --repository owner/app
  Would the cluster take this deployment?
      bonafide review -f deployment.yaml --policies policies/
  Are the policies right?
      bonafide policy check policies/
  What does the denial mean?
      bonafide explain UnsignedProvenance

Exit codes: 0 admitted, 1 denied, 2 could not be verified, 64 bad usage or invalid policy.";

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be left to read it; the code still says what happened.
            let _ = error.print();
            let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if wanted { Exit::Ok } else { Exit::Usage }.into();
        }
    };
    // One provider of cryptography for the whole process; a second installation changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            terminal::tell_failure(&failure);
            Exit::Usage.into()
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let exit = match command {
        Command::Verify(args) => block_on(verify::run(&args))??,
        Command::Review(args) => block_on(review::run(&args))??,
        Command::Serve(args) => return block_on(serve::run(*args, VERSION)),
        Command::Policy(args) => block_on(policy::run(&args))??,
        Command::Manifests(args) => manifests::run(&args)?,
        Command::Explain(args) => explain::run(&args)?,
    };
    Ok(exit.into())
}

fn block_on<T>(command: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("threads cannot be started: {error}")))?;
    let result = runtime.block_on(command);
    // A look-up that outlives its deadline must not hold up the answer.
    runtime.shutdown_background();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
