//! `--trust-root`: the files of trust roots, for every command that verifies.

use std::{fmt, path::PathBuf, str::FromStr};

use super::exit::Failure;
use crate::{
    domain::{identity::TrustRootName, policy::PolicySet},
    gather::ports::RootKeeper,
    server::files,
    trust::{Keeper, Roots},
};

/// The most that a trust root may be long.
const LIMIT: usize = 4 * 1024 * 1024;

/// A value of `--trust-root`: `FILE` in place of the built-in public root, or `NAME=FILE` beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFile {
    name: TrustRootName,
    path: PathBuf,
    written: String,
}

impl RootFile {
    /// Whether the root has this name.
    pub fn is_named(&self, name: &TrustRootName) -> bool {
        self.name == *name
    }
}

/// A root that cannot be had.
#[derive(Debug)]
pub struct RootFailure {
    /// What stands behind the flag.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for RootFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path that holds an equals sign is written with a slash before it: ./a=b.json.
        let named = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']));
        let (name, path) = match named {
            Some((name, path)) => {
                let parsed = TrustRootName::parse(name).ok_or_else(|| {
                    format!("{name:?} is no name: lower-case letters, digits, - and . make one; a file of that name is ./{text}")
                })?;
                (parsed, path)
            }
            None => (TrustRootName::default(), text),
        };
        if path.is_empty() {
            return Err("no file is named".to_owned());
        }
        Ok(Self { name, path: path.into(), written: text.to_owned() })
    }
}

/// The built-in roots, and those of the files.
///
/// # Errors
/// A file that is no trust root, and one name for two files.
pub fn load(given: &[RootFile]) -> Result<Roots, RootFailure> {
    let mut roots = Roots::embedded()
        .map_err(|error| RootFailure { value: "(built in)".to_owned(), problem: error.to_string() })?;
    for (at, file) in given.iter().enumerate() {
        let failed = |problem: &dyn fmt::Display| RootFailure {
            value: file.written.clone(),
            problem: problem.to_string(),
        };
        if given.iter().take(at).any(|other| other.name == file.name) {
            return Err(failed(&format!("the trust root {} is given twice", file.name)));
        }
        let bytes = files::read(&file.path, LIMIT).map_err(|error| failed(&error))?;
        let json = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))?;
        roots = roots.with(file.name.clone(), &json).map_err(|error| failed(&error))?;
    }
    Ok(roots)
}

/// Refuses to judge by policies that name a root which is not there: the answer would say nothing about the image.
///
/// # Errors
/// Where there is such a policy.
pub fn check(policies: &PolicySet, roots: &Keeper) -> Result<(), Failure> {
    let known = RootKeeper::known(roots);
    let lacking = |(policy, root)| known.lack(root).map(|lack| (policy, root, lack));
    match policies.named_roots().find_map(lacking) {
        Some((policy, root, lack)) => Err(Failure::new(format!(
            "a signer of the policy {policy} is never satisfied: {lack}"
        ))
        .hint(format!(
            "give its trusted_root.json: --trust-root {root}=FILE, or a TrustRoot object beside the policy"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_public_root_and_a_name_stands_before_an_equals_sign() {
        for (text, name, path) in [
            ("root.json", "sigstore", "root.json"),
            ("corp=root.json", "corp", "root.json"),
            ("github=/a/b=c.json", "github", "/a/b=c.json"),
            ("./a=b.json", "sigstore", "./a=b.json"),
        ] {
            let file: RootFile = text.parse().unwrap();
            assert_eq!((file.name.0.as_str(), file.path.to_str().unwrap()), (name, path), "{text}");
        }
        for text in ["", "=a", "corp=", "Corp=a", "-=a", "a b=c"] {
            assert!(text.parse::<RootFile>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_name_is_one_file() {
        let file = |text: &str| text.parse::<RootFile>().unwrap();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let failure = load(&[file(root)]).err().unwrap();
        assert!(failure.problem.contains("not a Sigstore trusted root"), "{}", failure.problem);
        let names = |roots: &Roots| roots.validities().map(|(name, _)| name.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&load(&[]).unwrap()), ["sigstore", "github"]);
    }
}
