//! Policy files: found, read and compiled, for every command that takes policies.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use super::{exit::Failure, inline::InlineArgs, terminal};
use crate::{
    api::{
        compile::{GivenKeys, NoKeys, Note, compile, unknown_roots},
        manifest::{self, Documents, PolicyDocument, RootDocument, SyntaxError},
    },
    cluster::reach::exempt::ExemptReach,
    domain::{
        identity::TrustRootName,
        policy::{PolicyEntry, PolicySet},
        reference::Repository,
    },
    server::files,
    trust::{CompiledTrustRoot, compile_trust_root},
};

/// How many files a folder may have, and how long each may be.
const MAX_FILES: usize = 1000;
const MAX_FILE: usize = 1024 * 1024;
/// What policy files end in.
const EXTENSIONS: &[&str] = &["yaml", "yml", "json"];
/// How many errors are shown where only the fact that there are any matters.
const SHOWN_ERRORS: usize = 20;

/// A policy file.
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it, valid or not.
    pub content: Result<Content, SyntaxError>,
}

/// What a policy file holds.
#[derive(Default)]
pub struct Content {
    /// Policies.
    pub policies: Vec<PolicyDocument>,
    /// Trust roots.
    pub roots: Vec<(RootDocument, CompiledTrustRoot)>,
}

/// What files give to judge by, all of it valid.
#[derive(Debug, Default)]
pub struct Given {
    /// The policies.
    pub policies: PolicySet,
    /// The `TrustRoot` objects.
    pub roots: Vec<serde_json::Value>,
}

/// An error in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The line, where it is known.
    pub line: Option<u64>,
    /// The field, where it is one field's.
    pub field: Option<String>,
    /// What is wrong, with the value.
    pub message: String,
}

impl PolicyFile {
    /// Its errors, in order.
    pub fn errors(&self) -> Vec<FileError> {
        match &self.content {
            Ok(content) => content.notes(|document| &document.compiled.errors, |root| &root.errors),
            Err(error) => vec![FileError { line: error.line, field: None, message: error.message.clone() }],
        }
    }

    /// What in it is wider than it looks.
    pub fn warnings(&self) -> Vec<FileError> {
        let notes =
            |content: &Content| content.notes(|document| &document.compiled.warnings, |root| &root.warnings);
        self.content.as_ref().map(notes).unwrap_or_default()
    }

    /// The signers that name a trust root which is not among these.
    pub fn unknown_roots(&self, known: &[TrustRootName]) -> Vec<FileError> {
        let mut found = Vec::new();
        for document in self.content.iter().flat_map(|content| &content.policies) {
            let PolicyEntry::Valid(policy) = &document.compiled.entry else { continue };
            let lack = |root: &TrustRootName| {
                (!known.contains(root))
                    .then(|| "is neither built in nor a TrustRoot in these files".to_owned())
            };
            for note in unknown_roots(policy, lack) {
                found.push(error(document.line_of(&note), &note));
            }
        }
        found
    }

    /// The policies that are for a namespace where none is in force.
    pub fn exempt(&self, exempt: &BTreeSet<String>) -> Vec<FileError> {
        let mut found = Vec::new();
        for document in self.content.iter().flat_map(|content| &content.policies) {
            let entry = &document.compiled.entry;
            let Some(reach) = ExemptReach::of(entry, exempt) else { continue };
            let is_namespaced = entry.id().namespace.is_some();
            let field = if is_namespaced { "metadata.namespace" } else { "spec.namespaceSelector" };
            let note = Note { field: field.to_owned(), value: None, message: reach.to_string() };
            found.push(error(document.line_of(&note), &note));
        }
        found
    }
}

impl Content {
    fn notes(
        &self,
        of_policy: impl Fn(&PolicyDocument) -> &[Note],
        of_root: impl Fn(&CompiledTrustRoot) -> &[Note],
    ) -> Vec<FileError> {
        let policies = self
            .policies
            .iter()
            .flat_map(|document| of_policy(document).iter().map(|note| error(document.line_of(note), note)));
        let roots = self.roots.iter().flat_map(|(document, root)| {
            of_root(root).iter().map(|note| error(document.line_of(note), note))
        });
        policies.chain(roots).collect()
    }
}

impl From<manifest::PolicyFile> for Content {
    fn from(file: manifest::PolicyFile) -> Self {
        let mut content = Self { policies: file.policies, roots: Vec::new() };
        for document in file.roots {
            let mut root = compile_trust_root(&document.object);
            root.warn_of_ends(Timestamp::now());
            if content.roots.iter().any(|(_, known)| known.name == root.name) {
                root.refuse(Note {
                    field: "metadata.name".to_owned(),
                    value: Some(root.name.to_string()),
                    message: "is there twice in this file".to_owned(),
                });
            }
            content.roots.push((document, root));
        }
        content
    }
}

fn error(line: u64, note: &Note) -> FileError {
    FileError { line: Some(line), field: Some(note.field.clone()), message: message(note) }
}

fn message(note: &Note) -> String {
    let value = note.value.as_ref().map(|value| format!("{value:?} ")).unwrap_or_default();
    format!("{value}{}", note.message)
}

/// Every policy file among files and folders.
///
/// # Errors
/// What cannot be read, and where there is no policy at all.
pub fn load(paths: &[PathBuf]) -> Result<Vec<PolicyFile>, Failure> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be read: {error}", path.display()))
    };
    let mut parsed = Vec::new();
    for path in paths {
        let found = files::list(path, EXTENSIONS, MAX_FILES).map_err(|error| unreadable(path, &error))?;
        for stamp in found {
            let bytes =
                files::read(stamp.path(), MAX_FILE).map_err(|error| unreadable(stamp.path(), &error))?;
            let text = String::from_utf8(bytes).map_err(|_| unreadable(stamp.path(), &"it is not UTF-8"))?;
            parsed.push((stamp.path().to_owned(), manifest::parse(&text)));
        }
    }
    // A key may be in another file than the policy that references it.
    let mut keys = GivenKeys::default();
    for documents in parsed.iter().filter_map(|(_, documents)| documents.as_ref().ok()) {
        documents.add_keys(&mut keys);
    }
    let read = |(path, documents): (PathBuf, Result<Documents, SyntaxError>)| PolicyFile {
        path,
        content: documents.map(|documents| Content::from(documents.compile(&keys))),
    };
    let loaded: Vec<PolicyFile> = parsed.into_iter().map(read).collect();
    // A policy that is not there must not look like one that is satisfied.
    let is_empty = |content: &Content| content.policies.is_empty() && content.roots.is_empty();
    if loaded.iter().all(|file| file.content.as_ref().is_ok_and(is_empty)) {
        return Err(no_policy(paths));
    }
    Ok(loaded)
}

fn no_policy(paths: &[PathBuf]) -> Failure {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    Failure::new(format!("there is no policy in {}", names.join(", ")))
        .hint("a policy has apiVersion: bonafide.dev/v1alpha1; its file ends in .yaml, .yml or .json")
}

/// The policies and trust roots of files and folders, all of them valid.
///
/// # Errors
/// Every error of every file.
pub fn valid(paths: &[PathBuf]) -> Result<Given, Failure> {
    let loaded = load(paths)?;
    let mut lines: Vec<String> = loaded
        .iter()
        .flat_map(|file| file.errors().into_iter().map(|error| error.shown(&file.path)))
        .map(|line| terminal::plain(&line))
        .collect();
    if !lines.is_empty() {
        let more = lines.len().saturating_sub(SHOWN_ERRORS);
        lines.truncate(SHOWN_ERRORS);
        if more > 0 {
            lines.push(format!("… and {more} more"));
        }
        return Err(Failure::new(format!("a policy is invalid\n{}", lines.join("\n")))
            .hint("bonafide policy check shows every error, and what is wider than it looks"));
    }
    let mut entries = Vec::new();
    let mut roots = Vec::new();
    for content in loaded.into_iter().filter_map(|file| file.content.ok()) {
        entries.extend(content.policies.into_iter().map(|document| document.compiled.entry));
        roots.extend(content.roots.into_iter().map(|(document, _)| document.object));
    }
    if entries.is_empty() {
        return Err(no_policy(paths));
    }
    Ok(Given { policies: PolicySet::new(entries, 1), roots })
}

impl FileError {
    /// As a compiler writes it.
    pub fn shown(&self, path: &Path) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let field = self.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        format!("{}{line}: {field}{}", path.display(), self.message)
    }
}

/// The policy that flags describe.
///
/// # Errors
/// What is wrong with them, by flag and value.
pub fn inline_policy(flags: &InlineArgs, image: &Repository) -> Result<PolicySet, Failure> {
    let mut entry = compile_flags(flags, &flags.object(image)?)?;
    if let (PolicyEntry::Valid(policy), wanted) = (&mut entry, flags.in_place_of_provenance()?) {
        Arc::make_mut(policy).in_place_of_provenance = wanted;
    }
    if !flags.narrows_subject() {
        return Ok(PolicySet::new(vec![entry], 1));
    }
    let subject = compile_flags(flags, &flags.subject_object(image)?)?;
    Ok(PolicySet::new(vec![super::inline::with_subject(entry, &subject)?], 1))
}

fn compile_flags(flags: &InlineArgs, object: &serde_json::Value) -> Result<PolicyEntry, Failure> {
    let compiled = compile(object, &NoKeys);
    let by_flag = |note: &Note| match flags.flag_of(&note.field) {
        Some((flag, value)) => {
            let message = note.message.replace("workflowRefs", "--workflow-ref");
            format!("{flag} {value:?} {message}")
        }
        None => note.to_string(),
    };
    if !compiled.errors.is_empty() {
        return Err(Failure::new(compiled.errors.iter().map(by_flag).collect::<Vec<_>>().join("\n")));
    }
    // What is not given is what the help says; only what was written can be wider than it looks.
    for note in compiled.warnings.iter().filter(|note| note.value.is_some()) {
        terminal::tell_warning(&terminal::plain(&by_flag(note)));
    }
    Ok(compiled.entry)
}
