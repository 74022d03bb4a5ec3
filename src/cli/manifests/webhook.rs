//! `bonafide manifests webhook`: both webhook configurations, as a replica would install them.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::yaml;
use crate::{
    cli::{
        exit::{Exit, Failure},
        terminal,
        webhooks::WebhookArgs,
    },
    cluster::webhooks::{mutating, validating},
    server::files,
};

/// The most that is read of a bundle.
const MAX_BUNDLE: usize = 1024 * 1024;

/// Prints the webhook configurations.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    webhook: WebhookArgs,

    /// Pods go through /mutate too
    #[arg(long)]
    pinning: bool,

    /// Certificates of whoever signs the serving certificate, PEM. Default: left out, for another controller to fill in
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A bundle that is none.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let bundle = args.ca_bundle.as_deref().map(bundle).transpose()?;
    let settings = args.webhook.settings(args.pinning, bundle);
    let stream = yaml(&validating(&settings))? + &yaml(&mutating(&settings))?;
    terminal::print(&stream)?;
    Ok(Exit::Ok)
}

fn bundle(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong =
        |problem: &dyn std::fmt::Display| Failure::new(format!("--ca-bundle {}: {problem}", path.display()));
    let bytes = files::read(path, MAX_BUNDLE).map_err(|error| wrong(&error))?;
    let certificates: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(all) if !all.is_empty() => Ok(bytes),
        Ok(_) => Err(wrong(&"it holds no certificate (PEM)")),
        Err(error) => Err(wrong(&error)),
    }
}
