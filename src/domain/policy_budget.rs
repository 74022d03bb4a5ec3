//! How many bytes policies may take. Whoever may write policies in a namespace chooses how many and how large they are: what is beyond
//! the namespace's budget is invalid, and takes nothing from other namespaces and nothing from the cluster's policies.

use std::collections::HashMap;

use super::policy::PolicyId;

/// How many bytes the policies of one namespace may take.
const OF_NAMESPACE: usize = 8 << 20;
/// How many bytes the policies of all namespaces may take together.
const OF_ALL_NAMESPACES: usize = 24 << 20;
/// How many bytes each namespace may take whatever the others do.
const GUARANTEED: usize = 64 << 10;
/// How many bytes the policies of the cluster may take.
const OF_CLUSTER: usize = 16 << 20;

/// The policies that are admitted, and what each takes.
#[derive(Debug, Default)]
pub struct PolicyBudget {
    admitted: HashMap<PolicyId, usize>,
    /// By namespace; `None`: the cluster's policies.
    used: HashMap<Option<String>, usize>,
    /// By all namespaces.
    total: usize,
}

impl PolicyBudget {
    /// Admits a policy, in place of the one that had its name.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub fn admit(&mut self, id: &PolicyId, bytes: usize) -> Result<(), String> {
        self.release(id);
        let used = self.used.get(&id.namespace).copied().unwrap_or_default();
        let with = used.saturating_add(bytes);
        let total = self.total.saturating_add(bytes);
        let kib = bytes.div_ceil(1 << 10);
        let (owner, most) = match id.namespace {
            Some(_) => ("the policies of a namespace", OF_NAMESPACE),
            None => ("the policies of the cluster", OF_CLUSTER),
        };
        if with > most {
            return Err(format!(
                "needs {kib} KiB, and {owner} may take {} MiB together; delete policies, or write fewer and shorter patterns",
                most >> 20
            ));
        }
        if id.namespace.is_some() && total > OF_ALL_NAMESPACES && with > GUARANTEED {
            return Err(format!(
                "needs {kib} KiB, and the policies of all namespaces take {} MiB already, of which each namespace is sure of {} KiB",
                OF_ALL_NAMESPACES >> 20,
                GUARANTEED >> 10
            ));
        }
        if id.namespace.is_some() {
            self.total = total;
        }
        self.used.insert(id.namespace.clone(), with);
        self.admitted.insert(id.clone(), bytes);
        Ok(())
    }

    /// Gives back what a policy takes. Whether that is anything.
    pub fn release(&mut self, id: &PolicyId) -> bool {
        let Some(bytes) = self.admitted.remove(id) else { return false };
        if id.namespace.is_some() {
            self.total = self.total.saturating_sub(bytes);
        }
        if let Some(used) = self.used.get_mut(&id.namespace) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.used.remove(&id.namespace);
            }
        }
        bytes > 0
    }

    /// Gives back what all policies take of which `is_there` does not hold. Whether that is anything.
    pub fn retain(&mut self, is_there: impl Fn(&PolicyId) -> bool) -> bool {
        let gone: Vec<PolicyId> = self.admitted.keys().filter(|id| !is_there(id)).cloned().collect();
        gone.iter().fold(false, |any, id| self.release(id) | any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(namespace: &str, name: usize) -> PolicyId {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        PolicyId { namespace, name: name.to_string() }
    }

    #[test]
    fn b2_a_namespace_has_its_budget_and_takes_nothing_from_others() {
        let mut budget = PolicyBudget::default();
        assert_eq!(budget.admit(&id("a", 0), OF_NAMESPACE), Ok(()));
        let told = budget.admit(&id("a", 1), 1).unwrap_err();
        assert_eq!(
            told,
            "needs 1 KiB, and the policies of a namespace may take 8 MiB together; delete policies, or write fewer and shorter patterns"
        );
        assert_eq!(budget.admit(&id("b", 0), OF_NAMESPACE), Ok(()));
        assert_eq!(budget.admit(&id("", 0), OF_CLUSTER), Ok(()));
        assert!(budget.admit(&id("", 1), 1).is_err());
        // Another policy of the name takes the place of the one that had it.
        assert_eq!(budget.admit(&id("a", 0), OF_NAMESPACE - 1), Ok(()));
        assert_eq!(budget.admit(&id("a", 1), 1), Ok(()));
        assert!(budget.release(&id("a", 0)) && !budget.release(&id("a", 0)));
        assert_eq!(budget.admit(&id("a", 2), OF_NAMESPACE - 1), Ok(()));
    }

    #[test]
    fn b2_many_large_namespaces_leave_every_other_its_share() {
        let mut budget = PolicyBudget::default();
        let namespaces: Vec<String> = (0..3).map(|n| format!("large-{n}")).collect();
        for namespace in &namespaces {
            assert_eq!(budget.admit(&id(namespace, 0), OF_NAMESPACE), Ok(()));
        }
        assert_eq!(budget.admit(&id("small", 0), GUARANTEED), Ok(()));
        assert!(budget.admit(&id("small", 1), 1).unwrap_err().contains("sure of 64 KiB"));
        assert_eq!(budget.admit(&id("", 0), OF_CLUSTER), Ok(()));
        // What is gone makes room.
        assert!(budget.retain(|id| id.namespace.as_deref() != Some("large-0")));
        assert_eq!(budget.admit(&id("small", 1), 1), Ok(()));
    }
}
