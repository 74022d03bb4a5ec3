//! The shape of the code, as tests: which module may import which, what `domain` must not touch, how long a file may be.
//!
//! Files are read as Rust tokens, so that neither a comment nor a string can hide an import or look like one, and an
//! import written inside a macro counts like any other. What the scan cannot follow (a glob at the crate's root, a
//! renamed root) is a violation: name the module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each module of the crate's root with the modules that it may import, itself left out.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("api", &["domain"]),
    ("gather", &["api", "domain"]),
    ("registry", &["gather", "api", "domain"]),
    ("trust", &["gather", "api", "domain"]),
    ("cluster", &["gather", "api", "domain"]),
    ("server", &["registry", "trust", "cluster", "gather", "api", "domain"]),
    ("cli", &["server", "registry", "trust", "cluster", "gather", "api", "domain"]),
    ("main", &["cli", "server", "registry", "trust", "cluster", "gather", "api", "domain"]),
];

/// The dependencies that do no I/O, and that `domain` may therefore use. Every other one of `Cargo.toml` is refused there.
const PURE_CRATES: &[&str] = &[
    "aws_lc_rs", // for hashes
    "base64",
    "cel",
    "hex",
    "jiff",
    "parking_lot", // a lock is no I/O
    "regex",
    "regex_automata",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "url",
];

/// What of the standard library `domain` must not touch.
const IMPURE_STD: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// Of these, the types that are values and nothing more.
const PURE_VALUES: &[&str] = &["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr"];

/// Words that have no place in `domain`, wherever they stand.
const IMPURE_WORDS: &[&str] = &[
    "async",
    "await",
    "dbg",
    "eprint",
    "eprintln",
    "Instant",
    "print",
    "println",
    "SystemTime",
    "UNIX_EPOCH",
];

/// Lines of a file, its unit tests left out. "Rarely above 400" is the habit; this is where it stops being one.
const MAX_LINES: usize = 450;

/// A path as it stands in a file (`crate::domain::digest`), use-groups expanded, with the line it starts on.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    segments: Vec<String>,
    line: usize,
    renamed: bool,
    module: Vec<String>,
}

/// Every path of a file that is the module `module`.
fn paths(text: &str, module: &[String]) -> Vec<Found> {
    let tokens: TokenStream = text.parse().expect("the file is Rust");
    let mut found = Vec::new();
    walk(tokens, module, &mut found);
    found
}

fn walk(tokens: TokenStream, module: &[String], found: &mut Vec<Found>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if *word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner = [module, &[name.to_string()]].concat();
                    walk(body.stream(), &inner, found);
                    at += 3;
                } else {
                    at += 1;
                }
            }
            TokenTree::Ident(_) => at = path(&tokens, at, &[], module, found),
            TokenTree::Group(group) => {
                walk(group.stream(), module, found);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Reads one path that starts at `at`, below `prefix`; answers where to go on.
fn path(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    module: &[String],
    found: &mut Vec<Found>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].span().start().line;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                segments.push(word.to_string().trim_start_matches("r#").to_owned());
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' && !segments.is_empty() => {
                segments.push("*".into());
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inner.split(|token| is_punct(Some(token), ',')) {
                    if !part.is_empty() {
                        path(part, 0, &segments, module, found);
                    }
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !(is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')) {
            break;
        }
        at += 2;
    }
    let renamed = matches!(tokens.get(at), Some(TokenTree::Ident(word)) if *word == "as");
    found.push(Found { segments, line, renamed, module: module.to_vec() });
    at
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

impl Found {
    /// The path from the crate's root, where it is a path into this crate.
    fn path_from_root(&self) -> Option<Vec<String>> {
        match self.segments.first()?.as_str() {
            "crate" | "bonafide" => Some(self.segments[1..].to_vec()),
            "super" | "self" => {
                let mut absolute = self.module.clone();
                for segment in &self.segments {
                    match segment.as_str() {
                        "self" => {}
                        "super" => {
                            absolute.pop();
                        }
                        name => absolute.push(name.to_owned()),
                    }
                }
                Some(absolute)
            }
            _ => None,
        }
    }
}

/// The imports in `text` that the module may not make, one line each.
fn forbidden_imports(text: &str, module: &[String]) -> Vec<String> {
    let own = module[0].as_str();
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == own) else {
        return vec![format!("`{own}` has no row in MAY_IMPORT: decide where it stands")];
    };
    let mut violations = Vec::new();
    for found in paths(text, module) {
        let Some(target) = found.path_from_root() else { continue };
        let written = found.segments.join("::");
        match target.first().map(String::as_str) {
            // `crate`, `self` or `super` alone: `pub(crate)`, `pub(super)` and the receiver. Only a new name for it hides something.
            None if found.renamed => {
                violations.push(format!("line {}: `{written}` gives the crate's root a name", found.line));
            }
            None => {}
            Some("self") => {
                violations.push(format!("line {}: `{written}` imports the crate's root", found.line));
            }
            Some(top) if top == own || allowed.contains(&top) => {}
            Some(top) => {
                violations.push(format!("line {}: `{own}` may not use `{top}` ({written})", found.line));
            }
        }
    }
    violations
}

/// What in `text`, a file of `domain`, does I/O, is async or asks a clock.
fn impurities(text: &str, module: &[String], dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut violations = Vec::new();
    for found in paths(text, module) {
        let segments: Vec<&str> = found.segments.iter().map(String::as_str).collect();
        let crate_name = segments[0];
        let impure = (segments.len() > 1
            && dependencies.contains(crate_name)
            && !PURE_CRATES.contains(&crate_name))
            || (matches!(segments[..], ["std" | "core", part, ..] if IMPURE_STD.contains(&part) || part == "*")
                && !segments.last().is_some_and(|last| PURE_VALUES.contains(last)))
            || segments.iter().any(|word| IMPURE_WORDS.contains(word))
            || (segments.len() > 1 && segments.last() == Some(&"now"));
        if impure {
            violations.push(format!(
                "line {}: `{}` has no place in the pure core",
                found.line,
                segments.join("::")
            ));
        }
    }
    violations
}

/// The names of `[dependencies]` as they are written in code.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let names: BTreeSet<String> = manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().split('.').next().unwrap_or_default().replace('-', "_"))
        .collect();
    assert!(
        names.contains("tokio") && names.contains("serde"),
        "Cargo.toml is laid out otherwise: {names:?}"
    );
    names
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file with its text and its module path; `src/lib.rs`, which only lists the modules, left out.
fn sources() -> Vec<(PathBuf, String, Vec<String>)> {
    let mut folders = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                files.push(file);
            }
        }
    }
    files.sort();
    files
        .into_iter()
        .filter_map(|file| {
            let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
            let mut module: Vec<String> =
                relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") {
                module.pop();
            }
            (module != ["lib"]).then(|| (file.clone(), fs::read_to_string(&file).unwrap(), module))
        })
        .collect()
}

fn report(what: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{what}:\n  {}", violations.join("\n  "));
}

fn in_every_file(check: impl Fn(&str, &[String]) -> Vec<String>) -> Vec<String> {
    let sources = sources();
    assert!(sources.len() > 10, "the sources were not found");
    sources
        .iter()
        .flat_map(|(file, text, module)| {
            let file = file.strip_prefix(root()).unwrap().display().to_string();
            check(text, module).into_iter().map(move |violation| format!("{file}: {violation}"))
        })
        .collect()
}

#[test]
fn imports_go_one_way() {
    report(
        "imports against main → cli → server → { registry, trust, cluster } → gather → api → domain",
        &in_every_file(forbidden_imports),
    );
}

#[test]
fn the_domain_is_pure() {
    let dependencies = dependencies();
    let check = |text: &str, module: &[String]| {
        if module[0] == "domain" { impurities(text, module, &dependencies) } else { Vec::new() }
    };
    report("domain/ does no I/O, is not async and asks no clock", &in_every_file(check));
}

#[test]
fn a_file_is_one_idea() {
    let check = |text: &str, _: &[String]| {
        let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        if lines > MAX_LINES { vec![format!("{lines} lines, split it")] } else { Vec::new() }
    };
    report("files that hold more than one idea", &in_every_file(check));
}

#[test]
fn every_file_says_what_it_is_for() {
    let check = |text: &str, _: &[String]| {
        if text.starts_with("//!") {
            Vec::new()
        } else {
            vec!["no module documentation on its first line".into()]
        }
    };
    report("files without module documentation", &in_every_file(check));
}

/// The scan itself: what it must catch, and for each its twin that it must let pass.
mod the_scan {
    use super::*;

    fn module(path: &str) -> Vec<String> {
        path.split("::").map(str::to_owned).collect()
    }

    fn refused(path: &str, text: &str) {
        assert!(!forbidden_imports(text, &module(path)).is_empty(), "not caught in {path}: {text}");
    }

    fn accepted(path: &str, text: &str) {
        assert_eq!(forbidden_imports(text, &module(path)), Vec::<String>::new(), "in {path}: {text}");
    }

    #[test]
    fn catches_an_import_against_the_stream() {
        refused("domain::digest", "use crate::api::Wire;");
        accepted("api::wire", "use crate::domain::digest::Digest;");
        refused("gather", "use crate::registry::Client;");
        accepted("registry", "use crate::gather::ports::Images;");
    }

    #[test]
    fn catches_siblings_that_meet() {
        refused("registry::auth", "use crate::trust::Roots;");
        refused("trust::roots", "fn f() { crate::registry::Client::new(); }");
        accepted("server", "use crate::{registry::Client, trust::Roots};");
    }

    #[test]
    fn expands_groups() {
        refused("gather", "use crate::{api::Wire, domain::{digest::Digest, glob}, server};");
        accepted("gather", "use crate::{api::Wire, domain::{digest::Digest, glob}, gather};");
    }

    #[test]
    fn follows_super_and_inline_modules() {
        refused("gather::cache", "use super::super::trust::Roots;");
        accepted("gather::cache", "use super::trust::Roots;");
        refused("gather::cache", "mod tests { use super::super::super::trust::Roots; }");
        accepted("gather::cache", "mod tests { use super::super::trust::Roots; }");
    }

    #[test]
    fn looks_into_functions_and_macros() {
        refused("api", "fn f() -> crate::cli::Exit { loop {} }");
        refused("api", "macro_rules! m { () => { $crate::cli::run() } }");
        accepted("api", "macro_rules! m { () => { $crate::domain::run() } }");
    }

    #[test]
    fn is_fooled_by_neither_comments_nor_strings() {
        accepted("domain", "// use crate::cli;\n/* crate::cli */ const A: &str = \"crate::cli::run\";");
        refused("domain", "use /* a */ crate /* b */ :: // c\n cli::run;");
    }

    #[test]
    fn refuses_what_it_cannot_follow() {
        refused("domain", "use crate::*;");
        refused("domain", "use crate as root;");
        refused("domain", "use super as root;");
        refused("domain", "use crate::{self as root};");
        refused("domain", "use crate::Reexported;");
        refused("unheard_of", "");
        accepted("domain", "pub(crate) fn f() {} pub(in crate::domain) fn g(self) {}");
    }

    #[test]
    fn names_the_line() {
        let violations = forbidden_imports("//! Docs.\n\nuse crate::cli::run;\n", &module("domain"));
        assert_eq!(violations, ["line 3: `domain` may not use `cli` (crate::cli::run)"]);
    }

    #[test]
    fn catches_what_is_not_pure() {
        let dependencies: BTreeSet<String> = ["tokio", "serde", "jiff", "reqwest"].map(str::to_owned).into();
        let impure = |text: &str| !impurities(text, &module("domain::x"), &dependencies).is_empty();
        for text in [
            "use tokio::sync::Mutex;",
            "use std::{fmt, fs};",
            "use std::net::{IpAddr, TcpStream};",
            "use std::*;",
            "use std::time::{Duration, Instant};",
            "fn f() { std::time::SystemTime::now(); }",
            "fn f() { jiff::Timestamp::now(); }",
            "fn f() { Timestamp::now(); }",
            "async fn f() {}",
            "fn f() { reqwest::get(); }",
            "fn f() { println!(); }",
        ] {
            assert!(impure(text), "not caught: {text}");
        }
        for text in [
            "use std::{fmt, sync::Arc, time::Duration};",
            "use serde::Serialize; use jiff::Timestamp;",
            "use std::net::{IpAddr, Ipv6Addr};",
            "// tokio::spawn\nconst A: &str = \"std::fs\";",
            "fn f(now: Timestamp) -> bool { self.at < now }",
        ] {
            assert!(!impure(text), "caught for nothing: {text}");
        }
    }
}
