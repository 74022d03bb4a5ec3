//! `TrustRoot` objects, compiled for whoever asks: the watcher, `/validate-policy`, files and the command line alike.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::Value;

use super::{RootError, Roots, root::Root, tuf};
use crate::{
    api::compile::{CompiledRoot, Note, RootSource, TufSource, compile_root},
    domain::identity::TrustRootName,
};

/// What a `TrustRoot` object became.
#[derive(Clone)]
pub struct CompiledTrustRoot {
    /// The name that signers give to it.
    pub name: TrustRootName,
    /// The root; nothing, where something is wrong with it.
    pub(super) usable: Option<Usable>,
    /// What is wrong with it.
    pub errors: Vec<Note>,
    /// What is weaker than it may look.
    pub warnings: Vec<Note>,
}

/// A root that can be verified with, or where to have it from.
#[derive(Clone)]
pub(super) enum Usable {
    /// It is here.
    Root(Arc<Root>),
    /// It is fetched.
    Fetched(TufSource),
}

impl CompiledTrustRoot {
    /// Warns of each authority and log in it that has ended by this time, or will soon.
    pub fn warn_of_ends(&mut self, now: Timestamp) {
        let Some(Usable::Root(root)) = &self.usable else { return };
        let field = if root.alone.is_some() { "spec.certificateAuthority" } else { "spec.trustedRoot" };
        self.warnings.extend(root.ends.warnings(now).into_iter().map(|message| Note {
            field: field.to_owned(),
            value: None,
            message,
        }));
    }

    /// Makes it invalid for a reason that the object alone does not show.
    pub fn refuse(&mut self, error: Note) {
        self.errors.push(error);
        self.usable = None;
    }
}

/// Compiles a `TrustRoot` object, whatever it holds.
pub fn compile(object: &Value) -> CompiledTrustRoot {
    let CompiledRoot { name, source, mut errors, warnings } = compile_root(object);
    let name = TrustRootName(name);
    let usable = source.and_then(|source| match usable(&name, source) {
        Ok(usable) => Some(usable),
        Err((field, error)) => {
            errors.push(Note { field: field.to_owned(), value: None, message: error });
            None
        }
    });
    CompiledTrustRoot { name, usable, errors, warnings }
}

fn usable(name: &TrustRootName, source: RootSource) -> Result<Usable, (&'static str, String)> {
    match source {
        RootSource::TrustedRoot(json) => Root::from_json(name.clone(), &json)
            .map(|root| Usable::Root(Arc::new(root)))
            .map_err(|error| ("spec.trustedRoot", cannot_be_used(&error))),
        RootSource::Tuf(source) => match tuf::check_root(&source.root) {
            Ok(()) => Ok(Usable::Fetched(source)),
            Err(error) => Err(("spec.tuf.root", format!("is not the root of a TUF repository: {error}"))),
        },
        RootSource::Authority(source) => {
            let at = |error: String| ("spec.certificateAuthority", error);
            let root = Root::authority(name.clone(), &source).map_err(|error| at(cannot_be_used(&error)))?;
            match logged_root_of(&root) {
                Some(logged) => Err(at(format!(
                    "holds a key of the trust root {logged}, which has a log: what has one is not believed without it"
                ))),
                None => Ok(Usable::Root(Arc::new(root))),
            }
        }
    }
}

fn cannot_be_used(error: &RootError) -> String {
    format!("cannot be used: {error}")
}

/// The built-in root with a log that has an authority of the same key.
fn logged_root_of(root: &Root) -> Option<String> {
    static BUILT_IN: LazyLock<Option<Roots>> = LazyLock::new(|| Roots::embedded().ok());
    let built_in = BUILT_IN.iter().flat_map(|roots| &roots.roots).filter(|known| known.demands.log);
    let mut shared = built_in.filter(|known| known.authorities.share_a_key(&root.authorities));
    shared.next().map(|known| known.name.to_string())
}
