//! Which workloads the webhook configurations select: as few as the policies allow, so that nothing else waits for Bonafide.
//!
//! Nothing here talks to anyone. A workload that is not selected is admitted without a review, so every doubt selects it.

pub mod exempt;
pub mod expression;
mod fragment;
pub mod needed;

use std::collections::BTreeSet;

use crate::domain::policy::{PolicyEntry, Unmatched};

/// The most namespaces that a selector lists. The list is in each of three entries, and an object has at most 1.5 MB.
pub const MAX_NAMESPACES: usize = 1000;

/// How far the configurations are narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum ReachMode {
    /// Namespaces that no policy is for are left out
    #[default]
    Namespaces,
    /// Images that no policy can name are left out too
    Images,
    /// Nothing is left out but exempt namespaces
    Everything,
}

/// Which workloads the entries select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookReach {
    /// None: there are no entries but those for policies.
    Nothing,
    /// Those in these namespaces that name these images.
    Workloads {
        /// Which namespaces.
        namespaces: NamespaceReach,
        /// Which images. Bindings show none, so this does not narrow them.
        images: ImageReach,
    },
}

/// Which namespaces the entries select. Exempt ones are never among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceReach {
    /// All.
    Every,
    /// Those with these names; never empty.
    Named(BTreeSet<String>),
}

/// Which images the entries select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageReach {
    /// All.
    Every,
    /// Those that contain one of these texts, and those that are not plainly written; never empty.
    Containing(BTreeSet<String>),
}

/// What decides how far the entries reach, beside the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachRule {
    /// How far they are narrowed.
    pub mode: ReachMode,
    /// What images get that no policy names.
    pub unmatched: Unmatched,
    /// The exempt namespaces, all of them.
    pub exempt: BTreeSet<String>,
}

impl ReachRule {
    /// What these policies need.
    pub fn reach<'a>(&self, policies: impl IntoIterator<Item = &'a PolicyEntry>) -> WebhookReach {
        WebhookReach::of(self.mode, self.unmatched, &self.exempt, policies)
    }
}

impl WebhookReach {
    /// The widest.
    pub const EVERYTHING: Self =
        Self::Workloads { namespaces: NamespaceReach::Every, images: ImageReach::Every };

    /// What the policies need, valid and invalid ones of both kinds.
    pub fn of<'a>(
        mode: ReachMode,
        unmatched: Unmatched,
        exempt: &BTreeSet<String>,
        policies: impl IntoIterator<Item = &'a PolicyEntry>,
    ) -> Self {
        let narrows = match (mode, unmatched) {
            (ReachMode::Everything, _) | (_, Unmatched::Warn | Unmatched::Deny) => false,
            (ReachMode::Namespaces | ReachMode::Images, Unmatched::Allow) => true,
        };
        if !narrows {
            return Self::EVERYTHING;
        }
        let of_one = |policy| Self::of_policy(mode, exempt, policy);
        policies.into_iter().map(of_one).fold(Self::Nothing, Self::union).bounded()
    }

    fn of_policy(mode: ReachMode, exempt: &BTreeSet<String>, policy: &PolicyEntry) -> Self {
        let namespaces = match &policy.id().namespace {
            Some(namespace) if exempt.contains(namespace) => return Self::Nothing,
            Some(namespace) => NamespaceReach::Named(BTreeSet::from([namespace.clone()])),
            None => NamespaceReach::Every,
        };
        let images = match (mode, policy) {
            (ReachMode::Images, PolicyEntry::Valid(policy)) => {
                let fragments = policy.images.include.iter().map(|glob| fragment::fragment(glob.as_str()));
                let fragments: Option<BTreeSet<String>> = fragments.collect();
                match fragments.filter(|all| !all.is_empty()) {
                    Some(fragments) => ImageReach::Containing(fragments),
                    None => ImageReach::Every,
                }
            }
            // What a policy means that does not compile is not known.
            (ReachMode::Images, PolicyEntry::Invalid(_))
            | (ReachMode::Namespaces | ReachMode::Everything, _) => ImageReach::Every,
        };
        Self::Workloads { namespaces, images }
    }

    /// What either selects.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let (namespaces, images, other_namespaces, other_images) = match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => return one,
            (
                Self::Workloads { namespaces, images },
                Self::Workloads { namespaces: other_namespaces, images: other_images },
            ) => (namespaces, images, other_namespaces, other_images),
        };
        let namespaces = match (namespaces, other_namespaces) {
            (NamespaceReach::Named(mut names), NamespaceReach::Named(others)) => {
                names.extend(others);
                NamespaceReach::Named(names)
            }
            (NamespaceReach::Every, _) | (_, NamespaceReach::Every) => NamespaceReach::Every,
        };
        let images = match (images, other_images) {
            (ImageReach::Containing(mut fragments), ImageReach::Containing(others)) => {
                fragments.extend(others);
                ImageReach::Containing(fragments)
            }
            (ImageReach::Every, _) | (_, ImageReach::Every) => ImageReach::Every,
        };
        Self::Workloads { namespaces, images }
    }

    /// What both select. Of two texts that an image must contain, the longer one is kept where it contains the other.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        if self.covers(&other) {
            return other;
        } else if other.covers(&self) {
            return self;
        }
        let (
            Self::Workloads { namespaces, images },
            Self::Workloads { namespaces: others, images: other_images },
        ) = (self, other)
        else {
            return Self::Nothing;
        };
        let namespaces = match (namespaces, others) {
            (NamespaceReach::Every, one) | (one, NamespaceReach::Every) => one,
            (NamespaceReach::Named(names), NamespaceReach::Named(others)) => {
                let both: BTreeSet<String> = names.intersection(&others).cloned().collect();
                if both.is_empty() {
                    return Self::Nothing;
                }
                NamespaceReach::Named(both)
            }
        };
        let images = match (images, other_images) {
            (ImageReach::Every, one) | (one, ImageReach::Every) => one,
            (ImageReach::Containing(fragments), ImageReach::Containing(others)) => {
                let covered = |one: &BTreeSet<String>, fragment: &String| {
                    one.iter().any(|other| fragment.contains(other.as_str()))
                };
                let (first, second) = (fragments.clone(), others.clone());
                let both: BTreeSet<String> = fragments
                    .into_iter()
                    .filter(|fragment| covered(&second, fragment))
                    .chain(others.into_iter().filter(|fragment| covered(&first, fragment)))
                    .collect();
                if both.is_empty() {
                    return Self::Nothing;
                }
                ImageReach::Containing(both)
            }
        };
        Self::Workloads { namespaces, images }
    }

    /// The same namespaces, whatever the images are.
    #[must_use]
    pub fn of_every_image(self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Workloads { namespaces, .. } => Self::Workloads { namespaces, images: ImageReach::Every },
        }
    }

    /// The same within what a configuration can hold; beyond that it is wider.
    #[must_use]
    pub fn bounded(self) -> Self {
        let Self::Workloads { namespaces, images } = self else { return self };
        let namespaces = match namespaces {
            NamespaceReach::Named(names) if names.len() <= MAX_NAMESPACES => NamespaceReach::Named(names),
            NamespaceReach::Named(_) | NamespaceReach::Every => NamespaceReach::Every,
        };
        let images = match images {
            ImageReach::Containing(fragments) => {
                let fragments = expression::distinct(fragments);
                match expression::images(&fragments) {
                    Some(_) => ImageReach::Containing(fragments),
                    None => ImageReach::Every,
                }
            }
            ImageReach::Every => ImageReach::Every,
        };
        Self::Workloads { namespaces, images }
    }

    /// The same without namespaces that are exempt.
    #[must_use]
    pub fn without(self, exempt: &BTreeSet<String>) -> Self {
        let Self::Workloads { namespaces: NamespaceReach::Named(mut names), images } = self else {
            return self;
        };
        names.retain(|name| !exempt.contains(name));
        if names.is_empty() {
            return Self::Nothing;
        }
        Self::Workloads { namespaces: NamespaceReach::Named(names), images }
    }

    /// Whether all that `other` selects is selected.
    pub fn covers(&self, other: &Self) -> bool {
        let (namespaces, images, other_namespaces, other_images) = match (self, other) {
            (_, Self::Nothing) => return true,
            (Self::Nothing, Self::Workloads { .. }) => return false,
            (
                Self::Workloads { namespaces, images },
                Self::Workloads { namespaces: other_namespaces, images: other_images },
            ) => (namespaces, images, other_namespaces, other_images),
        };
        let namespaces = match (namespaces, other_namespaces) {
            (NamespaceReach::Every, _) => true,
            (NamespaceReach::Named(names), NamespaceReach::Named(others)) => names.is_superset(others),
            (NamespaceReach::Named(_), NamespaceReach::Every) => false,
        };
        let images = match (images, other_images) {
            (ImageReach::Every, _) => true,
            (ImageReach::Containing(fragments), ImageReach::Containing(others)) => {
                others.iter().all(|other| fragments.iter().any(|fragment| other.contains(fragment.as_str())))
            }
            (ImageReach::Containing(_), ImageReach::Every) => false,
        };
        namespaces && images
    }
}

#[cfg(test)]
mod tests;
