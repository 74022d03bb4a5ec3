//! Which images a policy is about. A pattern that can never match would leave its images unprotected without a word, so it is an
//! error: patterns are held against the one spelling that references are brought into.

use serde_json::Value;

use super::{fields::Fields, wire};
use crate::domain::{
    glob::Glob,
    policy::ImageSelector,
    reference::{ReferenceError, Repository},
};

const INCLUDE: &str = "spec.images.include";
const EXCLUDE: &str = "spec.images.exclude";

/// Compiles the selector of a policy.
pub fn images(fields: &mut Fields, images: &wire::Images) -> ImageSelector {
    let include = include(fields, &images.include);
    let exclude = fields.globs(EXCLUDE, &images.exclude);
    for (at, pattern) in images.exclude.iter().enumerate() {
        let field = format!("{EXCLUDE}[{at}]");
        check_can_match(fields, &field, pattern);
        check_exclusion(fields, &field, pattern, &images.include);
    }
    ImageSelector { include, exclude }
}

/// The images of a policy that is wrong somewhere: never fewer than its author can have meant. `None`: every image in its reach.
pub fn readable(spec: &Value) -> Option<ImageSelector> {
    let images = spec.get("images")?;
    let patterns = match images.get("include")? {
        Value::Array(items) if items.is_empty() || items.len() > wire::MAX_LIST => return None,
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut include = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        include.extend(readable_pattern(pattern.as_str()?)?);
    }
    // An exclusion that cannot be read takes nothing out.
    let exclude = images.get("exclude").and_then(Value::as_array).into_iter().flatten();
    let exclude = exclude.filter_map(Value::as_str).filter(|pattern| can_match(pattern).is_ok());
    let exclude = exclude.take(wire::MAX_LIST).filter_map(|pattern| Glob::new(pattern).ok()).collect();
    Some(ImageSelector { include, exclude })
}

/// What a pattern matches. Of one that is wrong: all that begins as it does, where its beginning is a registry's name. `None`: it
/// names no registry.
fn readable_pattern(pattern: &str) -> Option<Vec<Glob>> {
    if let (Ok(()), Ok(glob)) = (can_match(pattern), Glob::new(pattern)) {
        return Some(vec![glob]);
    }
    let written = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let (registry, path) = written.split_once('/').map_or((written, None), |(r, path)| (r, Some(path)));
    // Docker Hub's images have no registry in front, so another first part may be the beginning of one of them.
    let is_registry = registry == "localhost" || registry.contains(['.', ':']);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    let literal = |text: &str| text.find(|c| !plain(c)).unwrap_or(text.len());
    let sample: Repository = format!("{registry}/a/a").parse().ok().filter(|_| is_registry)?;
    let prefix = match path {
        Some(path) => {
            let path = path.get(..literal(path)).unwrap_or_default();
            // On Docker Hub `docker.io/nginx` is short for another name.
            let is_short = sample.registry() == "docker.io" && !path.contains('/');
            format!("{}/{}", sample.registry(), if is_short { "" } else { path })
        }
        None => format!("{}/", sample.registry()),
    };
    let mut globs = vec![Glob::new(&format!("{prefix}**")).ok()?];
    // Without a slash it may also be one of Docker Hub's own.
    if path.is_none() {
        globs.push(Glob::new(&format!("docker.io/library/{}**", registry.get(..literal(registry))?)).ok()?);
    }
    Some(globs)
}

fn include(fields: &mut Fields, patterns: &[String]) -> Vec<Glob> {
    if patterns.is_empty() {
        fields.error(INCLUDE, None, "is empty: the policy is about no image; write ghcr.io/owner/** or **");
    }
    let globs = fields.globs(INCLUDE, patterns);
    for (at, pattern) in patterns.iter().enumerate() {
        let field = format!("{INCLUDE}[{at}]");
        check_can_match(fields, &field, pattern);
        check_width(fields, &field, pattern);
    }
    globs
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn check_can_match(fields: &mut Fields, field: &str, pattern: &str) {
    // What is no glob has been told already.
    if let (Ok(_), Err(message)) = (Glob::new(pattern), can_match(pattern)) {
        fields.error(field, Some(pattern), message);
    }
}

/// Whether any reference could be brought into a form that the pattern matches; else why not.
fn can_match(pattern: &str) -> Result<(), String> {
    can_match_names(pattern)?;
    let begins_well = !pattern.starts_with(['.', '_', '-', ':', '/']);
    let is_of_names = begins_well && pattern.bytes().all(wire::is_of_repository_glob);
    if is_of_names { Ok(()) } else { Err(wire::NOT_OF_NAMES.to_owned()) }
}

fn can_match_names(pattern: &str) -> Result<(), String> {
    let Some((registry, path)) = pattern.split_once('/') else {
        let crosses = pattern.contains("**");
        return if crosses || pattern.is_empty() { Ok(()) } else { Err(wire::NO_REGISTRY.to_owned()) };
    };
    if pattern.contains("://") {
        return Err(wire::WITH_SCHEME.to_owned());
    }
    if path.contains(['@', ':']) {
        return Err(wire::WITH_TAG.to_owned());
    }
    if is_wild(registry) {
        return match format!("registry.example/{}", sample(path)).parse::<Repository>() {
            _ if registry.bytes().any(|b| b.is_ascii_uppercase()) => {
                Err("matches nothing: registries are matched in lower case".to_owned())
            }
            Ok(_) if registry.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:*?".contains(&b)) => Ok(()),
            Ok(_) => Err("matches nothing: a registry is a host, and a port where it has one".to_owned()),
            Err(error) => Err(nothing(&error)),
        };
    }
    let written = format!("{registry}/{}", sample(path));
    let matched: Repository = written.parse().map_err(|error| nothing(&error))?;
    if matched.as_str() == written {
        return Ok(());
    }
    let is_hub = matched.registry() == "docker.io";
    Err(match (matched.registry() == registry, is_wild(path)) {
        (true, true) => format!(
            "matches nothing: Docker Hub's own images are matched as {registry}/library/{path}, everybody's as {registry}/**"
        ),
        (_, false) => format!("matches nothing: such images are matched as {matched}"),
        (false, true) if is_hub && !registry.contains('.') => {
            format!("matches nothing: Docker Hub's images are matched as docker.io/{pattern}")
        }
        (false, true) => {
            format!("matches nothing: such images are matched as {}/{path}", matched.registry())
        }
    })
}

fn nothing(error: &ReferenceError) -> String {
    format!("matches nothing: {error}")
}

/// One text that the wildcards could stand for.
fn sample(path: &str) -> String {
    path.replace("**", "a/a").replace(['*', '?'], "a")
}

fn check_width(fields: &mut Fields, field: &str, pattern: &str) {
    let stem = pattern.trim_end_matches('*');
    if stem != pattern && !stem.is_empty() && !stem.ends_with('/') {
        let message =
            format!("also matches names that go on: {stem}-other; write {stem}/** for what is below it");
        fields.warn(field, Some(pattern), message);
    }
}

/// An exclusion takes images out of the policy's reach: there, wide is loose.
fn check_exclusion(fields: &mut Fields, field: &str, pattern: &str, include: &[String]) {
    let Ok(glob) = Glob::new(pattern) else { return };
    if !include.is_empty() && include.iter().all(|included| glob.matches(&sample(included))) {
        fields.warn(field, Some(pattern), "takes out all that is included: the policy is about no image");
    } else if pattern.starts_with('*') {
        fields.warn(field, Some(pattern), "takes images of every registry out of the policy");
    } else {
        let stem = pattern.trim_end_matches('*');
        if stem != pattern && !stem.ends_with('/') {
            fields.warn(field, Some(pattern), format!("also takes out names that go on: {stem}-other"));
        }
    }
}
