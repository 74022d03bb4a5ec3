//! Patterns of signers: refs with the tag asked for, and regular expressions over subjects. What accepts more than it looks like
//! is a warning; what accepts everybody is an error.

use super::fields::Fields;
use crate::domain::{
    glob::{AnchoredRegex, Glob},
    identity::{AroundTag, RefPattern},
};

/// What stands for the tag that was asked for.
const TAG: &str = "${image.tag}";
const PULL_REQUESTS: &str = "accepts pull requests, which anybody can open";

/// Ref patterns: globs that begin with `refs/`, with the tag asked for in place of `${image.tag}`; commits where they may be.
pub fn refs(fields: &mut Fields, field: &str, patterns: &[String], commits: bool) -> Vec<RefPattern> {
    let mut compiled = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let is_commit =
            commits && [40, 64].contains(&pattern.len()) && pattern.bytes().all(|b| b.is_ascii_hexdigit());
        if !pattern.starts_with("refs/") && !is_commit {
            let or_commit = if commits { " or a full commit" } else { "" };
            let message = format!(
                "is no ref{or_commit}: write refs/heads/{pattern} for a branch, refs/tags/{pattern} for a tag"
            );
            fields.error(&field, Some(pattern), message);
        } else if is_commit {
            // Certificates have them in lower case.
            compiled.extend(fields.glob(&field, &pattern.to_ascii_lowercase()).map(RefPattern::Fixed));
        } else if let Some((prefix, suffix)) = pattern.split_once(TAG) {
            compiled.extend(tagged(fields, &field, pattern, prefix, suffix));
        } else if pattern.contains("${") {
            fields.error(&field, Some(pattern), format!("has an unknown template; {TAG} is the only one"));
        } else {
            check_ref_width(fields, &field, pattern);
            compiled.extend(fields.glob(&field, pattern).map(RefPattern::Fixed));
        }
    }
    compiled
}

fn tagged(fields: &mut Fields, field: &str, pattern: &str, prefix: &str, suffix: &str) -> Option<RefPattern> {
    if [prefix, suffix].iter().any(|part| part.contains(['*', '?', '$', '{', '}'])) {
        fields.error(field, Some(pattern), format!("has something beside {TAG} that is no plain text"));
        return None;
    }
    if prefix.starts_with("refs/pull/") {
        fields.warn(field, Some(pattern), PULL_REQUESTS);
    } else if prefix.starts_with("refs/heads/") {
        let message = "lets whoever writes the pod choose the branch, by way of the image's tag";
        fields.warn(field, Some(pattern), message);
    }
    Some(RefPattern::Tagged(AroundTag { prefix: prefix.to_owned(), suffix: suffix.to_owned() }))
}

fn check_ref_width(fields: &mut Fields, field: &str, pattern: &str) {
    let Ok(glob) = Glob::new(pattern) else { return };
    let stem = pattern.trim_end_matches('*');
    if pattern.starts_with("refs/pull/")
        || ["refs/pull/1/merge", "refs/pull/1/head"].iter().any(|r| glob.matches(r))
    {
        fields.warn(field, Some(pattern), PULL_REQUESTS);
    } else if let Some(branch) = stem.strip_prefix("refs/heads/").filter(|branch| !branch.is_empty())
        && stem != pattern
        && !branch.ends_with(['/', '-', '.', '_'])
    {
        let message = format!("also accepts branches that go on, such as {branch}-anything");
        fields.warn(field, Some(pattern), message);
    }
}

/// A regular expression over the subject, anchored by what compiles it.
pub fn subject_regex(fields: &mut Fields, field: &str, pattern: &str) -> Option<AnchoredRegex> {
    let regex = match AnchoredRegex::new(pattern) {
        Ok(regex) => regex,
        Err(error) => {
            fields.error(field, Some(pattern), format!("is no regular expression: {error}"));
            return None;
        }
    };
    if !fields.takes_pattern(field, regex.bytes()) {
        return None;
    }
    let anybody =
        ["https://github.com/mallory/evil/.github/workflows/x.yml@refs/heads/x", "mallory@evil.example"];
    if anybody.iter().all(|subject| regex.matches(subject)) || regex.matches("") {
        fields.error(field, Some(pattern), "accepts everybody");
        return Some(regex);
    }
    let looks = Looks::at(pattern);
    if anybody.iter().any(|subject| regex.matches(subject)) {
        fields.warn(field, Some(pattern), "accepts repositories of any owner");
    } else if looks.open {
        let message = "has a .* or .+, which crosses / and @ too: what ends in one accepts pull requests, @refs/pull/1/merge; write [^/@]* for one part";
        fields.warn(field, Some(pattern), message);
    }
    if looks.bare_dot {
        fields.warn(field, Some(pattern), "has a dot that stands for any character: write [.] for a dot");
    }
    if looks.alternatives {
        let message = "has a | outside of parentheses: each side of it is a whole subject of its own";
        fields.warn(field, Some(pattern), message);
    }
    Some(regex)
}

/// What in a regular expression is easily misread.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looks {
    /// A dot that is neither escaped, nor in a class, nor repeated, such as in `github.com`.
    bare_dot: bool,
    /// A dot that is repeated without end.
    open: bool,
    /// Alternatives outside of every group.
    alternatives: bool,
}

impl Looks {
    fn at(pattern: &str) -> Self {
        let mut looks = Self::default();
        let (mut escaped, mut in_class, mut depth) = (false, false, 0_usize);
        let mut characters = pattern.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                ']' => in_class = false,
                _ if in_class => {}
                '[' => in_class = true,
                '(' => depth = depth.saturating_add(1),
                ')' => depth = depth.saturating_sub(1),
                '|' if depth == 0 => looks.alternatives = true,
                '.' if matches!(characters.peek(), Some('*' | '+' | '{')) => looks.open = true,
                '.' => looks.bare_dot = true,
                _ => {}
            }
        }
        looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_easily_misread_is_seen_where_it_means_something() {
        let looks = |bare_dot, open, alternatives| Looks { bare_dot, open, alternatives };
        for (pattern, expected) in [
            (r"github\.com/o", looks(false, false, false)),
            ("github[.]com/(a|b)", looks(false, false, false)),
            ("[|.*(]", looks(false, false, false)),
            ("github.com", looks(true, false, false)),
            ("a.*", looks(false, true, false)),
            ("a.{3,}", looks(false, true, false)),
            ("a|b", looks(false, false, true)),
            ("(a)|b", looks(false, false, true)),
        ] {
            assert_eq!(Looks::at(pattern), expected, "{pattern}");
        }
    }
}
