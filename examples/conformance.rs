//! The client that <https://github.com/sigstore/sigstore-conformance> runs: verifies a bundle about a file, as its
//! `docs/cli_protocol.md` asks. Signing is none of Bonafide's business.
//!
//! ```sh
//! cargo build --example conformance
//! pytest test --entrypoint target/debug/examples/conformance --skip-signing
//! ```
//! Exit 0: it verifies. Exit 1: it does not, and standard error says why.

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use bonafide::{
    api::compile::public_key,
    domain::{digest::Digest, identity::TrustRootName},
    trust::{Roots, Subject},
};
use clap::Parser;
use jiff::Timestamp;
use sigstore_trust_root::SIGSTORE_STAGING_TRUSTED_ROOT;

#[derive(Parser)]
enum Command {
    /// Verifies a bundle.
    VerifyBundle(Args),
}

#[derive(clap::Args)]
struct Args {
    /// Verifies under Sigstore's staging instance.
    #[arg(long)]
    staging: bool,
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// The subject alternative name that the certificate must have, exactly.
    #[arg(long, requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    /// The OIDC issuer that the certificate must name, exactly.
    #[arg(long, requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// The public key of a bundle that has no certificate, PEM.
    #[arg(long, conflicts_with_all = ["certificate_identity", "certificate_oidc_issuer"])]
    key: Option<PathBuf>,
    /// The trust root in place of the public one.
    #[arg(long)]
    trusted_root: Option<PathBuf>,
    /// What was signed: a file, or its digest as sha256:….
    #[arg(value_name = "FILE_OR_DIGEST")]
    artifact: String,
}

fn main() -> ExitCode {
    match run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command line. The protocol knows two answers; what clap refuses is the second as well.
///
/// # Errors
/// Why the answer is no.
pub fn run<T: Into<OsString> + Clone>(line: impl IntoIterator<Item = T>) -> Result<(), String> {
    match Command::try_parse_from(line).map_err(|error| error.to_string())? {
        Command::VerifyBundle(args) => verify(&args),
    }
}

fn verify(args: &Args) -> Result<(), String> {
    let roots = roots(args)?;
    let bundle = read(&args.bundle)?;
    let digest: Option<Digest> = args.artifact.parse().ok();
    let bytes = if digest.is_none() { read(&PathBuf::from(&args.artifact))? } else { Vec::new() };
    let subject = digest.as_ref().map_or(Subject::Bytes(&bytes), Subject::Digest);
    let now = Timestamp::now();
    if let Some(path) = &args.key {
        let pem = String::from_utf8(read(path)?).map_err(|_| "the key is not PEM".to_owned())?;
        let key = public_key(&pem).map_err(|problem| format!("the key {problem}"))?;
        return roots
            .verify_artifact_with_key(&bundle, subject, &key, now)
            .map_err(|refusal| refusal.to_string());
    }
    let (Some(identity), Some(issuer)) = (&args.certificate_identity, &args.certificate_oidc_issuer) else {
        return Err("neither an identity with its issuer nor a key is given: anybody would do".to_owned());
    };
    let certificate = roots.verify_artifact(&bundle, subject, now).map_err(|refusal| refusal.to_string())?;
    if certificate.subject != *identity {
        return Err(format!("it is signed by {}, not by {identity}", certificate.subject));
    }
    if certificate.issuer != *issuer {
        return Err(format!("its signer is vouched for by {}, not by {issuer}", certificate.issuer));
    }
    Ok(())
}

fn roots(args: &Args) -> Result<Roots, String> {
    let json = match &args.trusted_root {
        Some(path) => {
            String::from_utf8(read(path)?).map_err(|_| "the trusted root is not UTF-8".to_owned())?
        }
        None if args.staging => SIGSTORE_STAGING_TRUSTED_ROOT.to_owned(),
        None => return Roots::public_good().map_err(|error| error.to_string()),
    };
    Roots::from_json(TrustRootName::default(), &json).map_err(|error| error.to_string())
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
