//! The kinds of objects that are followed.

use std::fmt;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// `ProvenancePolicy` objects
    Policies,
    /// `ClusterProvenancePolicy` objects
    ClusterPolicies,
    /// `Namespace` objects
    Namespaces,
    /// `Node` objects
    Nodes,
    /// `RuntimeClass` objects
    RuntimeClasses,
    /// pods that are not bound yet
    Pods,
    /// `TrustRoot` objects
    TrustRoots,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Policies,
        Self::ClusterPolicies,
        Self::Namespaces,
        Self::Nodes,
        Self::RuntimeClasses,
        Self::Pods,
        Self::TrustRoots,
    ];

    /// Whether a cluster may lack the kind: it is not one of Kubernetes' own.
    pub(super) const fn may_be_absent(self) -> bool {
        matches!(self, Self::Policies | Self::ClusterPolicies | Self::TrustRoots)
    }

    /// The resource's name, as Kubernetes has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policies => "provenancepolicies",
            Self::ClusterPolicies => "clusterprovenancepolicies",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::RuntimeClasses => "runtimeclasses",
            Self::Pods => "pods",
            Self::TrustRoots => "trustroots",
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
