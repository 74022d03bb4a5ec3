//! From where a pod can land and what an image has to the manifests that it could be given.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    digest::Digest,
    evidence::Root,
    platform::{Candidate, EntryKind, IndexEntry, Platform, all_images, candidates},
    workload::Platforms,
};

/// The system of an image and of a node that do not say: nearly all are.
const USUAL: &str = "linux";

/// The manifests that a pod could be given, and the platforms it could land on for which there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Landing {
    /// Each manifest once, with the platform it would be picked for.
    pub candidates: Vec<(Option<Platform>, Candidate)>,
    /// The other platforms that manifests among them would be picked for too.
    further: Vec<(Platform, Candidate)>,
    /// Platforms that the image does not have.
    pub missing: Vec<Platform>,
}

/// The entries of an image's index; a single manifest is the one of its own.
pub fn entries(digest: Digest, root: &Root) -> Cow<'_, [IndexEntry]> {
    match root {
        Root::Index(entries) => Cow::Borrowed(entries),
        Root::Manifest(platform) => {
            let platform = platform.clone();
            Cow::Owned(vec![IndexEntry { digest, platform, conditional: false, kind: EntryKind::Image }])
        }
    }
}

/// Which manifests a runtime could pick on `platforms`.
pub fn landing(entries: &[IndexEntry], platforms: &Platforms) -> Landing {
    match platforms {
        Platforms::These(list) | Platforms::Among { platforms: list, .. } if !list.is_empty() => {
            let mut landing = Landing::default();
            for platform in list {
                landing.add(platform, std::slice::from_ref(platform), entries);
            }
            landing
        }
        Platforms::These(_) | Platforms::Unknown => of_systems(&[], entries),
        Platforms::Within { systems, architectures } | Platforms::Among { systems, architectures, .. }
            if architectures.is_empty() =>
        {
            of_systems(systems, entries)
        }
        Platforms::Within { systems, architectures } | Platforms::Among { systems, architectures, .. } => {
            of_architectures(systems, architectures, entries)
        }
    }
}

/// The manifests that only a node could be given that joins later.
pub fn beyond(
    entries: &[IndexEntry],
    platforms: &Platforms,
    today: &Landing,
) -> Vec<(Option<Platform>, Candidate)> {
    let possible = match platforms {
        Platforms::These(_) => of_systems(&[], entries),
        Platforms::Among { systems, architectures, .. } => {
            let (systems, architectures) = (systems.clone(), architectures.clone());
            landing(entries, &Platforms::Within { systems, architectures })
        }
        // All that is possible counts already.
        Platforms::Within { .. } | Platforms::Unknown => return Vec::new(),
    };
    let is_new = |(_, candidate): &(Option<Platform>, Candidate)| {
        !today.candidates.iter().any(|(_, known)| known.digest == candidate.digest)
    };
    possible.candidates.into_iter().filter(is_new).collect()
}

/// Every manifest of these systems, of any where none is named.
fn of_systems(systems: &[String], entries: &[IndexEntry]) -> Landing {
    let fits = |candidate: &Candidate| match &candidate.platform {
        Some(platform) => {
            systems.is_empty() || platform.os().is_empty() || systems.iter().any(|os| os == platform.os())
        }
        None => true,
    };
    let (found, others): (Vec<Candidate>, Vec<Candidate>) = all_images(entries).into_iter().partition(fits);
    let mut missing: Vec<Platform> = Vec::new();
    if let (true, Some(os)) = (found.is_empty(), systems.first()) {
        // Told by the architectures that it has for another system.
        missing = others
            .iter()
            .filter_map(|other| other.platform.as_ref())
            .map(|platform| Platform::new(os, platform.architecture(), platform.variant()))
            .collect();
        missing.sort_unstable();
        missing.dedup();
    }
    let candidates = found.into_iter().map(|c| (c.platform.clone(), c)).collect();
    Landing { candidates, further: Vec::new(), missing }
}

/// What nodes of these architectures could pick. Where no system is named it is each that the image has: whoever writes no system
/// means the usual one, but nothing keeps the pod from a node of another, and an image that has no other loses nothing by it.
fn of_architectures(systems: &[String], architectures: &[String], entries: &[IndexEntry]) -> Landing {
    let mut all: BTreeSet<&str> = systems.iter().map(String::as_str).collect();
    if all.is_empty() {
        all.insert(USUAL);
        collect_systems(entries, &mut all);
    }
    let mut landing = Landing::default();
    for architecture in architectures {
        let of = |os: &&str| Platform::new(os, architecture, None);
        let platforms: Vec<Platform> = all.iter().map(of).collect();
        let shown = of(&systems.first().map_or(USUAL, String::as_str));
        landing.add(&shown, &platforms, entries);
    }
    landing
}

fn collect_systems<'a>(entries: &'a [IndexEntry], all: &mut BTreeSet<&'a str>) {
    for entry in entries {
        all.extend(
            entry.platform.as_ref().filter(|p| !p.is_unknown() && !p.os().is_empty()).map(Platform::os),
        );
        if let EntryKind::Index(nested) = &entry.kind {
            collect_systems(nested, all);
        }
    }
}

impl Landing {
    /// The platforms that a candidate would be picked for: a manifest that the index lists without one is picked for several.
    pub fn platforms_of<'a>(
        &'a self,
        first: Option<&'a Platform>,
        candidate: &'a Candidate,
    ) -> impl Iterator<Item = Option<&'a Platform>> {
        let further = self.further.iter().filter(move |(_, known)| known == candidate);
        std::iter::once(first).chain(further.map(|(platform, _)| Some(platform)))
    }

    /// Adds what could be picked on any of `platforms`; where that is nothing, `shown` is missing.
    fn add(&mut self, shown: &Platform, platforms: &[Platform], entries: &[IndexEntry]) {
        let mut some = false;
        for platform in platforms {
            for candidate in candidates(platform, entries) {
                some = true;
                match self.candidates.iter().find(|(_, known)| *known == candidate) {
                    None => self.candidates.push((Some(platform.clone()), candidate)),
                    Some((first, _)) if first.as_ref() == Some(platform) => {}
                    Some(_) => self.further.push((platform.clone(), candidate)),
                }
            }
        }
        if !some {
            self.missing.push(shown.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Root {
        let entry = |text: &&str| IndexEntry {
            digest: Digest::of(text.as_bytes()),
            platform: (!text.is_empty()).then(|| text.parse().unwrap()),
            conditional: false,
            kind: EntryKind::Image,
        };
        Root::Index(platforms.iter().map(entry).collect())
    }

    fn landed(systems: &[&str], architectures: &[&str], image: &[&str]) -> (Vec<String>, Vec<String>) {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let within = Platforms::Within { systems: own(systems), architectures: own(architectures) };
        let landing = landing(&entries(Digest::of(b"root"), &index(image)), &within);
        let shown =
            |c: &(Option<Platform>, Candidate)| c.1.platform.as_ref().map_or("-".into(), ToString::to_string);
        (
            landing.candidates.iter().map(shown).collect(),
            landing.missing.iter().map(ToString::to_string).collect(),
        )
    }

    fn found(systems: &[&str], architectures: &[&str], image: &[&str]) -> Vec<String> {
        let (found, missing) = landed(systems, architectures, image);
        assert_eq!(missing, Vec::<String>::new());
        found
    }

    #[test]
    fn an_architecture_without_a_system_is_of_each_system_that_the_image_has() {
        // The everyday case: an image for linux alone.
        assert_eq!(found(&[], &["amd64"], &["linux/amd64", "linux/arm64"]), ["linux/amd64"]);
        assert_eq!(
            found(&[], &["amd64"], &["linux/amd64", "windows/amd64"]),
            ["linux/amd64", "windows/amd64"]
        );
        assert_eq!(found(&[], &["amd64"], &["windows/amd64"]), ["windows/amd64"]);
        assert_eq!(found(&[], &["amd64"], &["", "unknown/unknown"]), ["-"]);
        assert_eq!(found(&["linux"], &["amd64"], &["linux/amd64", "windows/amd64"]), ["linux/amd64"]);
        assert_eq!(found(&["windows"], &["amd64"], &["linux/amd64", "windows/amd64"]), ["windows/amd64"]);
        let none = (Vec::new(), vec!["linux/arm64".to_owned()]);
        assert_eq!(landed(&[], &["arm64"], &["linux/amd64", "windows/amd64"]), none);
    }

    #[test]
    fn a_system_without_an_architecture_is_of_each_architecture_that_the_image_has() {
        let image = ["linux/amd64", "linux/arm64", "windows/amd64", ""];
        assert_eq!(found(&["linux"], &[], &image), ["linux/amd64", "linux/arm64", "-"]);
        assert_eq!(found(&["windows"], &[], &image), ["windows/amd64", "-"]);
        assert_eq!(found(&[], &[], &image).len(), 4);
        let missing = vec!["windows/amd64".to_owned(), "windows/arm64".to_owned()];
        assert_eq!(landed(&["windows"], &[], &["linux/arm64", "linux/amd64"]), (Vec::new(), missing));
    }
}
