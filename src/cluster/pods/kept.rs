//! What is kept of pods until they are bound: bounded in bytes for each namespace and in all. A pod for which there is no room is
//! looked up when it is bound. No pod ever takes the place of one of another namespace.

use std::{collections::HashMap, sync::Arc};

use crate::{domain::workload::Workload, gather::weigh};

/// The most bytes that are kept, with what a map takes beside them.
pub(super) const ALL: usize = 16 << 20;
/// The most bytes of one namespace.
pub(super) const EACH: usize = 2 << 20;
/// The most bytes of one pod.
pub(super) const ONE: usize = 64 << 10;

/// Pods by their uid.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pods: HashMap<String, Arc<Workload>>,
    /// How many bytes each namespace has; no namespace has none.
    namespaces: HashMap<String, usize>,
    bytes: usize,
}

impl Kept {
    /// Keeps a pod where there is room for it; what was kept under its uid is gone either way.
    pub(super) fn put(&mut self, uid: &str, workload: Workload) {
        self.remove(uid);
        let bytes = weight(uid, &workload);
        let of_namespace = self.namespaces.get(&workload.namespace).copied().unwrap_or_default();
        let fits = bytes <= ONE
            && of_namespace.saturating_add(bytes) <= EACH
            && self.bytes.saturating_add(bytes) <= ALL;
        if fits && !uid.is_empty() {
            let of_namespace = self.namespaces.entry(workload.namespace.clone()).or_default();
            *of_namespace = of_namespace.saturating_add(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
            self.pods.insert(uid.to_owned(), Arc::new(workload));
        }
    }

    /// Forgets a pod.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some(workload) = self.pods.remove(uid) else { return };
        let bytes = weight(uid, &workload);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(of_namespace) = self.namespaces.get_mut(&workload.namespace) {
            *of_namespace = of_namespace.saturating_sub(bytes);
            if *of_namespace == 0 {
                self.namespaces.remove(&workload.namespace);
            }
        }
    }

    /// A pod of this uid.
    pub(super) fn get(&self, uid: &str) -> Option<Arc<Workload>> {
        self.pods.get(uid).cloned()
    }

    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How many bytes a pod takes.
fn weight(uid: &str, workload: &Workload) -> usize {
    weigh::workload(workload).saturating_add(uid.len()).saturating_add(workload.namespace.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::{ImageRole, Placement, PullWith, WorkloadImage};

    fn pod(namespace: &str, size: usize) -> Workload {
        let image = WorkloadImage {
            name: "c".to_owned(),
            role: ImageRole::Container,
            field: "spec.containers[0].image".to_owned(),
            image: "x".repeat(size),
        };
        Workload {
            kind: "Pod".to_owned(),
            namespace: namespace.to_owned(),
            name: "p".to_owned(),
            images: vec![Arc::new(image)],
            placement: Placement::default(),
            pull: PullWith::default(),
        }
    }

    #[test]
    fn b1_one_namespace_has_its_share_and_no_more_and_pushes_nobody_out() {
        let mut kept = Kept::default();
        kept.put("other", pod("other", 1000));
        for n in 0..1000 {
            kept.put(&n.to_string(), pod("loud", ONE / 2));
        }
        assert!((EACH / 2..=EACH).contains(&kept.namespaces["loud"]));
        assert!(kept.get("other").is_some() && kept.get("0").is_some());
        assert!(kept.get("999").is_none(), "it is looked up");
        kept.put("late", pod("other", 1000));
        assert!(kept.get("late").is_some());
    }

    #[test]
    fn b1_all_together_are_bounded_and_room_comes_back() {
        let mut kept = Kept::default();
        let name = |n: usize| format!("n{}", n / 20);
        for n in 0..1000 {
            kept.put(&n.to_string(), pod(&name(n), ONE / 2));
        }
        assert!((ALL / 2..=ALL).contains(&kept.bytes()));
        for n in 0..1000 {
            kept.remove(&n.to_string());
        }
        assert_eq!((kept.bytes(), kept.pods.len(), kept.namespaces.len()), (0, 0, 0));
    }

    #[test]
    fn b1_a_pod_that_is_too_large_or_has_no_uid_is_not_kept_and_neither_is_what_it_was_before() {
        let mut kept = Kept::default();
        kept.put("", pod("n", 10));
        assert!(kept.get("").is_none());
        kept.put("a", pod("n", 10));
        assert!(kept.get("a").is_some());
        kept.put("a", pod("n", ONE));
        assert!(kept.get("a").is_none());
        assert_eq!(kept.bytes(), 0);
    }
}
