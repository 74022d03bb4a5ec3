//! `bonafide manifests`: what Bonafide is installed with, as the program itself makes it.

mod crd;
mod webhook;

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use super::exit::{Exit, Failure};

/// Prints what Bonafide is installed with.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the custom resource definitions.
    Crd,
    /// Prints the webhook configurations that the leading replica installs.
    Webhook(webhook::Args),
}

/// Runs the command.
///
/// # Errors
/// Where nothing can be printed.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Crd => crd::run(),
        Command::Webhook(args) => webhook::run(args),
    }
}

/// One document of a YAML stream.
fn yaml(object: &impl Serialize) -> Result<String, Failure> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(object, options)
        .map(|text| format!("---\n{}\n", text.trim_end()))
        .map_err(|error| Failure::new(format!("the manifest cannot be written: {error}")))
}
