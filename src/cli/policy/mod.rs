//! `bonafide policy`: working on policy files.

mod check;

use clap::{Args as ClapArgs, Subcommand};

use super::exit::{Exit, Failure};

/// Works on policy files.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows every error in policy files at once, and patterns that are wider than they look.
    Check(check::Args),
}

/// Runs the command.
///
/// # Errors
/// Where the files cannot be looked at.
pub async fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Check(args) => check::run(args).await,
    }
}
