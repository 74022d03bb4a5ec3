//! The literal text that every way to write an image must contain which a glob of a policy matches.
//!
//! Globs are matched against the normal form, `docker.io/library/nginx`. A pod may write `nginx`: of Docker Hub's images, the registry
//! and an implied `library/` may be missing. Other registries are always written, with the normal form's letters: an image in capitals,
//! with the port 443, or with a port that begins with zero is selected whatever it contains (see [`super::expression`]).

/// The part of Docker Hub's paths that need not be written.
const IMPLIED: &str = "library/";
/// Docker Hub under its own name.
const HUB: &str = "docker.io";

/// The longest such text of a glob. `None`: there is none.
pub(super) fn fragment(glob: &str) -> Option<String> {
    let mut candidates: Vec<&str> = Vec::new();
    let registry = glob.split_once('/').map(|(registry, _)| registry).filter(|text| !text.contains(is_wild));
    let is_always_written = registry.is_some_and(|registry| registry != HUB);
    let mut slashes: usize = 0;
    let mut at: usize = 0;
    for run in glob.split(is_wild) {
        let ends_the_glob = at.saturating_add(run.len()) == glob.len();
        if is_always_written {
            candidates.push(run);
        }
        // The text behind a slash is whole wherever the image is written, but for what is implied.
        for (slash, _) in run.match_indices('/') {
            slashes = slashes.saturating_add(1);
            let text = run.get(slash.saturating_add(1)..).unwrap_or_default();
            // The registry's slash and another one come before it: it is behind what may be missing.
            let is_behind = slashes > 1;
            match text.strip_prefix(IMPLIED) {
                Some(rest) if !is_behind => candidates.push(rest),
                None if !is_behind && !ends_the_glob && IMPLIED.starts_with(text) => {}
                _ => candidates.push(text),
            }
        }
        // A whole name has at least one slash, so the text behind its last one is never what is missing.
        if ends_the_glob {
            candidates.push(run.rsplit('/').next().unwrap_or_default());
        }
        at = at.saturating_add(run.len()).saturating_add(1);
    }
    let longest = candidates.into_iter().max_by_key(|text| text.len())?;
    // Anything else is in no normal form, and would have to be escaped.
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-:/".contains(&b);
    (!longest.is_empty() && longest.bytes().all(is_plain)).then(|| longest.to_owned())
}

const fn is_wild(c: char) -> bool {
    matches!(c, '*' | '?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b8_a_fragment_is_in_every_way_to_write_an_image() {
        for (glob, expected) in [
            ("ghcr.io/acme/**", "ghcr.io/acme/"),
            ("ghcr.io/acme/app", "ghcr.io/acme/app"),
            ("ghcr.io/a*/application", "/application"),
            ("registry.example:5000/app", "registry.example:5000/app"),
            ("docker.io/library/nginx", "nginx"),
            ("docker.io/library/ngi*", "ngi"),
            ("docker.io/bitnami/**", "bitnami/"),
            ("docker.io/bitnami/nginx", "bitnami/nginx"),
            ("docker.io/*/nginx", "nginx"),
            ("docker.io/lib*/nginx", "nginx"),
            ("docker.io/libx*/y", "libx"),
            ("docker.io/**/nginx-*", "nginx-"),
            ("*/acme/app", "acme/app"),
            ("**/acme/*", "acme/"),
            ("*/library/app", "app"),
            ("**/library", "library"),
            ("**nginx", "nginx"),
            ("*.example/app/**", "app/"),
        ] {
            assert_eq!(fragment(glob).as_deref(), Some(expected), "{glob}");
        }
        for glob in
            ["**", "docker.io/**", "docker.io/library/*", "docker.io/l**", "*/*", "**/lib**", "'**", "**É"]
        {
            assert_eq!(fragment(glob), None, "{glob}");
        }
    }

    /// Every way to write a repository in lower case and without a default port.
    fn spellings(registry: &str, path: &str) -> Vec<String> {
        let mut all = vec![format!("{registry}/{path}")];
        if registry == HUB {
            let short = path.strip_prefix(IMPLIED).filter(|name| !name.contains('/'));
            for path in [Some(path), short].into_iter().flatten() {
                all.push(path.to_owned());
                all.extend(
                    [HUB, "index.docker.io", "registry-1.docker.io"].map(|host| format!("{host}/{path}")),
                );
            }
        }
        all
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(4096))]
        #[test]
        fn b8_every_spelling_of_what_a_glob_matches_has_its_fragment(
            registry in proptest::sample::select(vec![HUB, "ghcr.io", "localhost", "a:80"]),
            parts in proptest::collection::vec(proptest::sample::select(vec!["library", "lib", "a", "b-c", "y"]), 1..4),
            cuts in proptest::collection::vec((0_usize..40, 0_usize..12, proptest::sample::select(vec!["*", "**", "?", ""])), 0..4),
        ) {
            let path = parts.join("/");
            let path = if registry == HUB && parts.len() == 1 { format!("{IMPLIED}{path}") } else { path };
            let mut glob = format!("{registry}/{path}");
            for (from, length, wild) in cuts {
                let from = from.min(glob.len());
                let to = (from + length).min(glob.len());
                glob.replace_range(from..to, wild);
            }
            let matches = crate::domain::glob::Glob::new(&glob)
                .is_ok_and(|glob| glob.matches(&format!("{registry}/{path}")));
            if let Some(fragment) = fragment(&glob).filter(|_| matches) {
                for written in spellings(registry, &path) {
                    let parsed: crate::domain::reference::Reference = written.parse().unwrap();
                    if parsed.repository().as_str() == format!("{registry}/{path}") {
                        proptest::prop_assert!(written.contains(&fragment), "{} of {} by {}", written, fragment, glob);
                    }
                }
            }
        }
    }
}
