//! Where attestations are looked for: names as images have them, and nothing that would be another name than it looks.

use super::{fields::Fields, wire};
use crate::domain::reference::Repository;

/// Compiles the repositories of a policy.
pub fn repositories(fields: &mut Fields, attestations: &wire::Attestations) -> Vec<Repository> {
    let mut all: Vec<Repository> = Vec::new();
    for (at, name) in attestations.repositories.iter().enumerate() {
        let field = format!("spec.attestations.repositories[{at}]");
        match repository(name) {
            Ok(repository) if all.contains(&repository) => {
                fields.error(&field, Some(name), "is there twice");
            }
            Ok(repository) => all.push(repository),
            Err(why) => fields.error(&field, Some(name), why),
        }
    }
    all
}

fn repository(name: &str) -> Result<Repository, String> {
    if name.contains("://") {
        return Err("is a repository's name, without the scheme".to_owned());
    }
    if name.contains(['*', '?']) {
        return Err("is one repository: it cannot be a pattern".to_owned());
    }
    let tagged = name.rsplit_once('/').map_or(name, |(_, last)| last).contains(':');
    if tagged || name.contains('@') {
        return Err("is a repository: write it without tag and digest".to_owned());
    }
    let repository: Repository = name.parse().map_err(|error| format!("is no repository: {error}"))?;
    if repository.as_str() == name {
        return Ok(repository);
    }
    Err(format!("is short for another name: write {repository}"))
}
