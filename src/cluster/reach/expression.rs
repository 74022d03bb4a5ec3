//! The `matchConditions` expression that narrows the entries to images that a policy can name.
//!
//! The API server evaluates it for every workload. An expression that fails, or that costs too much, would be a denial, or with
//! `failurePolicy: Ignore` an admission. So each access is optional, lists may be null, and what is larger than the expression was
//! made for is sent to the webhook before anything else of it is looked at.
//!
//! Costs are those of Kubernetes 1.37: a limit of 1,000,000 for an expression and of 2,500,000 for all of an entry.

use std::collections::BTreeSet;

/// The name of the condition.
pub const NAME: &str = "images-that-policies-can-name";
/// What the expression may cost: half of what the API server allows.
pub const MAX_COST: usize = 500_000;
/// How long it may be in code points: half of what the API server allows.
pub const MAX_LENGTH: usize = 50_000;

/// More fragments than this are longer than [`MAX_LENGTH`].
const MAX_FRAGMENTS: usize = MAX_LENGTH / (BEFORE.len() + AFTER.len() + 1);
/// The most containers of one list, and volumes with an image.
const MAX_CONTAINERS: usize = 32;
/// The most volumes.
const MAX_VOLUMES: usize = 256;
/// The longest image. Within it, no name, tag or implied registry is longer than a reference may be.
const MAX_IMAGE: usize = 235;
/// Four lists of images, and a space behind each.
const MOST_TEXT: usize = 4 * MAX_CONTAINERS * (MAX_IMAGE + 1);
/// With less room than this for all images of a workload, nearly every workload would be too large.
const LEAST_TEXT: usize = 600;
/// What everything costs that does not grow with the length of the images: the loops over the lists.
const FIXED_COST: usize = 60_000;

/// An image as it is nearly always written: `[host/]path[:tag][@sha256:…]`, in lower case. Whatever matches is a valid reference.
const PLAIN: &str = "^(([a-z0-9]+((_|__|-+)[a-z0-9]+)*|[a-z0-9]+(-+[a-z0-9]+)*([.][a-z0-9]+(-+[a-z0-9]+)*)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}))?)/\
    ([a-z0-9]+(([._]|__|-+)[a-z0-9]+)*/)*)?[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(:[a-z0-9_][a-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$";
/// What is plainly written and still something else: a default port, which is left out of the normal form, and what container runtimes
/// take for the ID of an image on the node.
const ODD: &str = "^(sha256|sha512|[0-9a-f]+)([:@]|$)|:443/";

/// What comes before the fragments, and after them.
const HEAD: &str = "!(request.kind.kind in ['Pod', 'PodTemplate', 'ReplicationController', 'Deployment', 'ReplicaSet', 'StatefulSet', \
    'DaemonSet', 'Job', 'CronJob']) || [\
    request.kind.kind == 'Pod' ? object.?spec : \
    request.kind.kind == 'PodTemplate' ? object.?template.?spec : \
    request.kind.kind == 'CronJob' ? object.?spec.?jobTemplate.?spec.?template.?spec : \
    object.?spec.?template.?spec].exists(s, !s.hasValue() || \
    [?s.?containers, ?s.?initContainers, ?s.?ephemeralContainers].exists(l, l != null && size(l) > CONTAINERS) || \
    [?s.?volumes].exists(l, l != null && size(l) > VOLUMES) || \
    [[?s.?containers, ?s.?initContainers, ?s.?ephemeralContainers].filter(l, l != null).map(l, l.map(c, c.?image.orValue(''))) + \
    [?s.?volumes].filter(l, l != null).map(l, l.filter(v, has(v.image)).map(v, v.?image.?reference.orValue('')))].exists(a, \
    a.exists(l, size(l) > CONTAINERS || l.exists(i, size(i) > IMAGE)) || \
    [a.map(l, l.join(' ')).join(' ')].exists(t, size(t) > TEXT || \
    a.exists(l, l.exists(i, !i.matches(r'PLAIN') || i.matches(r'ODD')))";
const BEFORE: &str = "||t.contains('";
const AFTER: &str = "')";
const TAIL: &str = ")))";

/// The expression, which is true for a workload with an image that contains one of these, or that is not plainly written. `None`
/// where they are too many, or too long: then every workload must be sent.
pub fn images(fragments: &BTreeSet<String>) -> Option<String> {
    if fragments.is_empty() {
        return None;
    }
    let text = text_limit(fragments)?;
    let mut expression = HEAD
        .replace("PLAIN", PLAIN)
        .replace("ODD", ODD)
        .replace("CONTAINERS", &MAX_CONTAINERS.to_string())
        .replace("VOLUMES", &MAX_VOLUMES.to_string())
        .replace("IMAGE", &MAX_IMAGE.to_string())
        .replace("TEXT", &text.to_string());
    for fragment in fragments {
        // Nothing that a literal would have to be escaped for gets here; if it did, every workload would have to be sent.
        if fragment.is_empty() || !fragment.bytes().all(|b| b.is_ascii_graphic() && b != b'\'' && b != b'\\')
        {
            return None;
        }
        expression.push_str(BEFORE);
        expression.push_str(fragment);
        expression.push_str(AFTER);
    }
    expression.push_str(TAIL);
    (expression.len() <= MAX_LENGTH).then_some(expression)
}

/// The fragments of an expression that was made here; `None`: it was not.
pub fn fragments(expression: &str) -> Option<BTreeSet<String>> {
    let mut parts = expression.strip_suffix(TAIL)?.split(BEFORE);
    parts.next()?;
    let found: Option<BTreeSet<String>> =
        parts.map(|part| part.strip_suffix(AFTER).map(ToOwned::to_owned)).collect();
    found.filter(|found| images(found).as_deref() == Some(expression))
}

/// Those that are not in others: what contains the longer one contains the shorter one.
pub fn distinct(fragments: BTreeSet<String>) -> BTreeSet<String> {
    let mut by_length: Vec<String> = fragments.into_iter().collect();
    by_length.sort_by_key(String::len);
    let mut kept: Vec<String> = Vec::new();
    for fragment in by_length {
        // More than these are too many in any case.
        if kept.len() > MAX_FRAGMENTS || !kept.iter().any(|shorter| fragment.contains(shorter.as_str())) {
            kept.push(fragment);
        }
    }
    kept.into_iter().collect()
}

/// How long all images of a workload may be together for the expression to stay within [`MAX_COST`].
fn text_limit(fragments: &BTreeSet<String>) -> Option<usize> {
    // A tenth of the text's length times: a tenth of each fragment's length, and a quarter of each regular expression's.
    let of_fragments: usize = fragments.iter().map(|fragment| fragment.len().div_ceil(10)).sum();
    let per_tenth = of_fragments
        .checked_add(PLAIN.len().div_ceil(4))?
        .checked_add(ODD.len().div_ceil(4))?
        // Joining.
        .checked_add(4)?;
    let steps = fragments.len().checked_mul(4)?;
    // Each image's length is rounded up by itself.
    let rounding = 4_usize.checked_mul(MAX_CONTAINERS)?.checked_mul(per_tenth.checked_sub(of_fragments)?)?;
    let left = MAX_COST.checked_sub(FIXED_COST)?.checked_sub(steps)?.checked_sub(rounding)?;
    let limit = left.checked_div(per_tenth)?.checked_mul(10)?.min(MOST_TEXT);
    (limit >= LEAST_TEXT).then_some(limit)
}
