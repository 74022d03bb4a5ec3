//! How long a review may take: what the API server grants with `?timeout=`, less a margin, so that the answer is ours.

use std::time::Duration;

/// The most that Kubernetes grants a webhook.
pub const LONGEST: Duration = Duration::from_secs(30);
/// The most that is kept back for the way of the answer.
const LARGEST_MARGIN: Duration = Duration::from_millis(500);

/// The time a review has, of what the query grants; `default` where that says nothing usable.
///
/// A timeout that does not parse is no reason to deny a pod: the API server writes it, and nobody else profits from a wrong one.
pub fn budget(query: Option<&str>, default: Duration) -> Duration {
    let granted = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("timeout="))
        .and_then(go_duration)
        .filter(|granted| !granted.is_zero())
        .unwrap_or(default)
        .min(LONGEST);
    granted.saturating_sub(margin(granted))
}

fn margin(granted: Duration) -> Duration {
    granted.checked_div(10).unwrap_or_default().min(LARGEST_MARGIN)
}

/// A duration as Go writes it: `10s`, `1m30s`, `1.5s`, `500ms`. Negative ones are none.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    // As the API server writes it.
    if let Some(seconds) = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()) {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(number_end)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let value: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Duration = Duration::from_secs(10);

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, want) in [
            ("10s", ms(10_000)),
            ("1m30s", ms(90_000)),
            ("1.5s", ms(1_500)),
            ("500ms", ms(500)),
            ("0", ms(0)),
            ("0s", ms(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(go_duration(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_margin_is_kept_and_the_grant_is_capped() {
        assert_eq!(budget(Some("timeout=10s"), DEFAULT), Duration::from_millis(9_500));
        assert_eq!(budget(Some("a=b&timeout=1s"), DEFAULT), Duration::from_millis(900));
        assert_eq!(budget(Some("timeout=10m"), DEFAULT), Duration::from_millis(29_500));
        for query in [None, Some(""), Some("timeout="), Some("timeout=0s"), Some("timeout=soon")] {
            assert_eq!(budget(query, Duration::from_secs(5)), Duration::from_millis(4_500), "{query:?}");
        }
    }
}
