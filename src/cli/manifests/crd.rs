//! `bonafide manifests crd`: the custom resource definitions, as the chart has them.

use super::yaml;
use crate::{
    api::crd,
    cli::{
        exit::{Exit, Failure},
        terminal,
    },
};

/// Runs the command.
///
/// # Errors
/// Where nothing can be printed.
pub fn run() -> Result<Exit, Failure> {
    let mut stream = String::new();
    for definition in crd::definitions() {
        stream.push_str(&yaml(&definition)?);
    }
    terminal::print(&stream)?;
    Ok(Exit::Ok)
}
