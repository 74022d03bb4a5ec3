//! The bounds of the signers that are build systems.

use super::{Of, lists, texts};
use serde_json::json;

/// For each field with a bound: where it is in the full policy, and what to put there.
pub fn bounded() -> Vec<(&'static str, &'static str, Of)> {
    vec![
        (
            "signers[].github.environments",
            "/signers/0/github/environments",
            Box::new(lists(json!("production"))),
        ),
        ("signers[].github.environments[]", "/signers/0/github/environments/0", Box::new(texts("", ""))),
        ("signers[].gitlab.project", "/signers/4/gitlab/project", Box::new(texts("o/", ""))),
        ("signers[].gitlab.projectId", "/signers/4/gitlab/projectId", Box::new(|n| json!("1".repeat(n)))),
        ("signers[].gitlab.namespaceId", "/signers/4/gitlab/namespaceId", Box::new(|n| json!("1".repeat(n)))),
        ("signers[].gitlab.config", "/signers/4/gitlab/config", Box::new(texts("", ".yml"))),
        (
            "signers[].gitlab.configRefs",
            "/signers/4/gitlab/configRefs",
            Box::new(lists(json!("refs/tags/v1"))),
        ),
        (
            "signers[].gitlab.configRefs[]",
            "/signers/4/gitlab/configRefs/0",
            Box::new(texts("refs/tags/", "")),
        ),
        ("signers[].gitlab.refs", "/signers/4/gitlab/refs", Box::new(lists(json!("refs/tags/v1")))),
        ("signers[].gitlab.refs[]", "/signers/4/gitlab/refs/0", Box::new(texts("refs/tags/", ""))),
        ("signers[].gitlab.triggers", "/signers/4/gitlab/triggers", Box::new(lists(json!("push")))),
        ("signers[].gitlab.triggers[]", "/signers/4/gitlab/triggers/0", Box::new(texts("", ""))),
        (
            "signers[].gitlab.environments",
            "/signers/4/gitlab/environments",
            Box::new(lists(json!("production"))),
        ),
        ("signers[].gitlab.environments[]", "/signers/4/gitlab/environments/0", Box::new(texts("", ""))),
        ("signers[].gitlab.issuer", "/signers/4/gitlab/issuer", Box::new(texts("https://", ""))),
        ("signers[].buildkite.organization", "/signers/5/buildkite/organization", Box::new(texts("", ""))),
        ("signers[].buildkite.pipeline", "/signers/5/buildkite/pipeline", Box::new(texts("", ""))),
        ("signers[].buildkite.refs", "/signers/5/buildkite/refs", Box::new(lists(json!("refs/tags/v1")))),
        ("signers[].buildkite.refs[]", "/signers/5/buildkite/refs/0", Box::new(texts("refs/tags/", ""))),
        ("signers[].buildkite.triggers", "/signers/5/buildkite/triggers", Box::new(lists(json!("webhook")))),
        ("signers[].buildkite.triggers[]", "/signers/5/buildkite/triggers/0", Box::new(texts("", ""))),
        (
            "signers[].googleCloudBuild.serviceAccount",
            "/signers/6/googleCloudBuild/serviceAccount",
            Box::new(texts("", "@p.iam.gserviceaccount.com")),
        ),
        (
            "signers[].googleCloudBuild.project",
            "/signers/7/googleCloudBuild/project",
            Box::new(texts("", "")),
        ),
    ]
}
