//! Warnings within what Kubernetes passes on: at most 256 characters each and 4096 together, without control characters, which its
//! header cannot carry. Longer ones are split at spaces, and never within a digest.

/// The most characters of one warning.
const EACH: usize = 256;
/// The most characters of all.
const ALL: usize = 4096;
/// Room for the line that says how many are left out.
const REST: usize = 64;
/// What a part that goes on begins with.
const GOES_ON: &str = "… ";
/// The length of a SHA-256 digest as it is written.
const DIGEST: usize = 71;

/// What is sent of these warnings, each once.
pub fn fit(warnings: &[String]) -> Vec<String> {
    let mut fitting: Vec<String> = Vec::new();
    let mut used = 0_usize;
    for (at, warning) in warnings.iter().enumerate() {
        if warnings.iter().take(at).any(|earlier| earlier == warning) {
            continue;
        }
        let parts = split(warning);
        let length: usize = parts.iter().map(|part| part.chars().count()).sum();
        if used.saturating_add(length) > ALL.saturating_sub(REST) {
            let left = warnings.len().saturating_sub(at);
            fitting.push(format!("{GOES_ON}and {left} more warnings"));
            break;
        }
        used = used.saturating_add(length);
        fitting.extend(parts);
    }
    fitting
}

fn split(warning: &str) -> Vec<String> {
    let clean: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut length = 0_usize;
    for word in clean.split_whitespace().flat_map(pieces) {
        let next = word.chars().count().saturating_add(1);
        if length.saturating_add(next) > EACH && length > 0 {
            parts.push(std::mem::replace(&mut part, GOES_ON.trim_end().to_owned()));
            length = 1;
        }
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
        length = length.saturating_add(next);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// A word that is too long for a part, in pieces that are not; a digest stays in one.
fn pieces(word: &str) -> Vec<&str> {
    let limit = EACH.saturating_sub(GOES_ON.chars().count()).saturating_sub(1);
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some((end, _)) = rest.char_indices().nth(limit) {
        let within = rest
            .match_indices("sha256:")
            .map(|(start, _)| start)
            .find(|start| (1..end).contains(start) && end < start.saturating_add(DIGEST));
        let (piece, tail) = rest.split_at(within.unwrap_or(end));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> String {
        format!("sha256:{}", "0123456789abcdef".repeat(4))
    }

    fn fitted(warning: &str) -> Vec<String> {
        let fitted = fit(&[warning.to_owned()]);
        assert!(fitted.iter().all(|part| part.chars().count() <= EACH), "{fitted:#?}");
        fitted
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(fitted("the tag can be moved"), ["the tag can be moved"]);
        let longest = "x".repeat(253);
        assert_eq!(fitted(&longest), [longest]);
        assert!(fit(&[]).is_empty());
    }

    #[test]
    fn no_digest_is_cut_wherever_it_stands() {
        for before in 0..400 {
            for glue in [" ", "@"] {
                let text = format!("{}{glue}{} and so on {}", "ä".repeat(before), digest(), digest());
                let parts = fitted(&text);
                let whole = parts.iter().map(|part| part.matches(&digest()).count()).sum::<usize>();
                assert_eq!(whole, 2, "{parts:#?}");
            }
        }
    }

    #[test]
    fn nothing_is_lost_in_splitting() {
        let text = (0..120).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
        let parts = fitted(&text);
        assert!(parts.len() > 2);
        let joined = parts.join(" ").replace(" … ", " ");
        assert_eq!(joined, text);
    }

    #[test]
    fn all_together_are_bounded_and_what_is_left_out_is_counted() {
        let warnings: Vec<String> = (0..100).map(|n| format!("{n} {}", "x ".repeat(100))).collect();
        let fitted = fit(&warnings);
        assert!(fitted.iter().map(|part| part.chars().count()).sum::<usize>() <= ALL);
        assert!(fitted.last().is_some_and(|last| last.ends_with("more warnings")), "{fitted:#?}");
    }

    #[test]
    fn control_characters_and_repeats_are_left_out() {
        let twice = ["a\r\nb\u{1b}[2K".to_owned(), "a\r\nb\u{1b}[2K".to_owned()];
        assert_eq!(fit(&twice), ["a b [2K"]);
    }
}
