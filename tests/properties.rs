//! Properties that hold for every input: of references, globs, and the choice of manifests for a platform.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bonafide::domain::{
    digest::Digest,
    glob::{AnchoredRegex, Glob},
    platform::{EntryKind, IndexEntry, Platform, all_images, candidates},
    reference::{Reference, Repository},
};
use proptest::prelude::*;

fn component() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,6}([._-]|__)?[a-z0-9]{1,6}"
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,6}[.](io|com)",
        "[a-z]{1,6}[.]example:[1-9][0-9]{0,3}",
        Just("localhost:5000".to_owned())
    ]
}

fn name() -> impl Strategy<Value = String> {
    (host(), prop::collection::vec(component(), 1..4))
        .prop_map(|(host, path)| format!("{host}/{}", path.join("/")))
}

fn platform() -> impl Strategy<Value = Platform> {
    let architecture = prop_oneof![Just("amd64"), Just("386"), Just("arm64"), Just("arm"), Just("s390x")];
    let variant = prop_oneof![Just(None), "v[1-9]".prop_map(Some)];
    let os = prop_oneof![4 => Just("linux"), 1 => Just("windows")];
    (os, architecture, variant)
        .prop_map(|(os, architecture, variant)| Platform::new(os, architecture, variant.as_deref()))
}

fn entries(depth: u32) -> BoxedStrategy<Vec<IndexEntry>> {
    let leaf = (any::<u16>(), prop::option::weighted(0.9, platform())).prop_map(|(n, platform)| IndexEntry {
        digest: Digest::of(&n.to_be_bytes()),
        platform,
        conditional: n % 7 == 0,
        kind: EntryKind::Image,
    });
    if depth == 0 {
        return prop::collection::vec(leaf, 0..6).boxed();
    }
    let nested = (any::<u16>(), prop::option::weighted(0.3, platform()), entries(depth - 1)).prop_map(
        |(n, platform, nested)| IndexEntry {
            digest: Digest::of(&[&n.to_be_bytes()[..], b"index"].concat()),
            platform,
            conditional: false,
            kind: EntryKind::Index(nested),
        },
    );
    prop::collection::vec(prop_oneof![4 => leaf, 1 => nested], 0..6).boxed()
}

proptest! {
    /// Whatever parses is written in one way, and that parses to the same.
    #[test]
    fn a_reference_that_parses_is_stable(text in "\\PC{0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let again: Reference = reference.to_string().parse().unwrap();
            prop_assert_eq!(reference.repository(), again.repository());
            prop_assert_eq!(reference.tag(), again.tag());
            prop_assert_eq!(reference.digest(), again.digest());
            prop_assert_eq!(again.to_string(), reference.to_string());
        }
    }

    #[test]
    fn a_well_formed_reference_parses_into_its_parts(name in name(), tag in "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}", n in any::<u64>()) {
        let digest = Digest::of(&n.to_be_bytes());
        let reference: Reference = format!("{name}:{tag}@{digest}").parse().unwrap();
        prop_assert_eq!(reference.tag(), Some(tag.as_str()));
        prop_assert_eq!(reference.digest(), Some(&digest));
        let repository: Repository = name.parse().unwrap();
        prop_assert_eq!(reference.repository(), &repository);
        prop_assert_eq!(format!("{}/{}", repository.registry(), repository.path()), repository.as_str());
    }

    /// The spelling of a host leads past no policy.
    #[test]
    fn the_case_of_a_host_and_the_default_port_change_nothing(name in name()) {
        let (host, path) = name.split_once('/').unwrap();
        let parse = |text: String| text.parse::<Repository>().unwrap();
        let normal = parse(name.clone());
        prop_assert_eq!(&parse(format!("{}/{path}", host.to_uppercase())), &normal);
        if !host.contains(':') {
            prop_assert_eq!(&parse(format!("{host}:443/{path}")), &normal);
        }
    }

    #[test]
    fn arbitrary_text_never_panics_a_parser(text in any::<String>()) {
        let _ = text.parse::<Reference>();
        let _ = text.parse::<Repository>();
        let _ = text.parse::<Digest>();
        let _ = text.parse::<Platform>();
        let _ = Glob::new(&text);
        let _ = AnchoredRegex::new(&text);
    }

    /// A glob without wildcard is the text itself; nothing longer or shorter fits.
    #[test]
    fn a_literal_glob_is_equality(literal in "[a-zA-Z0-9./:_-]{1,20}", other in "[a-zA-Z0-9./:_-]{0,22}") {
        let glob = Glob::new(&literal).unwrap();
        prop_assert!(glob.matches(&literal));
        prop_assert_eq!(glob.matches(&other), literal == other);
        let longer = [format!("{literal}x"), format!("x{literal}"), format!("{literal}\n")];
        prop_assert!(!longer.iter().any(|text| glob.matches(text)));
    }

    /// One star takes any part of a segment and no slash; two take anything.
    #[test]
    fn stars_take_what_they_say(prefix in "[a-z/]{1,8}", middle in "[a-z0-9./-]{0,12}", suffix in "[A-Z]{1,4}") {
        let text = format!("{prefix}{middle}{suffix}");
        let (one, two) = (format!("{prefix}*{suffix}"), format!("{prefix}**{suffix}"));
        prop_assert_eq!(Glob::new(&one).unwrap().matches(&text), !middle.contains('/'));
        prop_assert!(Glob::new(&two).unwrap().matches(&text));
    }

    #[test]
    fn a_regex_matches_the_whole_text_or_nothing(word in "[a-z]{1,8}", more in "[a-z]{1,3}") {
        let regex = AnchoredRegex::new(&word).unwrap();
        let longer = [format!("{word}{more}"), format!("{more}{word}"), format!("{word}\n")];
        prop_assert!(regex.matches(&word));
        prop_assert!(!longer.iter().any(|text| regex.matches(text)));
    }

    /// Whatever is picked is in the index, once, can run there, and no attestation.
    #[test]
    fn candidates_are_manifests_that_fit(wanted in platform(), entries in entries(2)) {
        let all = all_images(&entries);
        let found = candidates(&wanted, &entries);
        for (at, candidate) in found.iter().enumerate() {
            prop_assert!(all.contains(candidate));
            prop_assert!(!found[..at].contains(candidate));
            if let Some(platform) = &candidate.platform {
                prop_assert_eq!(platform.os(), wanted.os());
                prop_assert!(!platform.is_unknown());
            }
        }
    }

    /// What CRI-O takes, an exact match, and what containerd takes first are always among the candidates.
    #[test]
    fn no_exact_match_is_left_out(wanted in platform(), entries in entries(0)) {
        let found = candidates(&wanted, &entries);
        for entry in entries.iter().filter(|entry| entry.platform.as_ref() == Some(&wanted)) {
            prop_assert!(found.iter().any(|candidate| candidate.digest == entry.digest));
        }
        let none_fits = !entries.iter().any(|entry| entry.platform.as_ref().is_none_or(|p| p.os() == wanted.os()));
        prop_assert!(!none_fits || found.is_empty());
    }

    /// The order of an index is whoever's pushed it: it decides nothing.
    #[test]
    fn the_order_of_an_index_changes_nothing(wanted in platform(), entries in entries(1)) {
        let set = |entries: &[IndexEntry]| {
            let mut found: Vec<Digest> = candidates(&wanted, entries).into_iter().map(|c| c.digest).collect();
            found.sort_unstable();
            found
        };
        let reversed: Vec<IndexEntry> = entries.iter().rev().cloned().collect();
        prop_assert_eq!(set(&entries), set(&reversed));
    }
}
