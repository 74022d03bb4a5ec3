//! Where placements land among the nodes that are known, kept until the nodes change.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{
    ports::Snapshot,
    weigh::{self, capped},
};
use crate::domain::{
    placement,
    workload::{Placement, Platforms},
};

/// How many bytes of placements are kept.
const BYTES: u64 = 4 << 20;
/// The largest placement of which it is kept where it lands: looking for it takes longer than working it out.
const LARGEST: usize = 16 << 10;

/// A placement among the nodes of a generation.
type Key = (u64, Placement);

/// What is known of placements.
pub(super) struct Landings {
    kept: moka::sync::Cache<Key, Arc<Platforms>>,
    /// Where a pod lands that asks for nothing, as most do, with the nodes' generation.
    anywhere: ArcSwapOption<(u64, Arc<Platforms>)>,
}

impl Default for Landings {
    fn default() -> Self {
        let weigher = |(_, placement): &Key, platforms: &Arc<Platforms>| {
            capped(weigh::placement(placement).saturating_add(weigh::platforms(platforms)))
        };
        Self {
            kept: moka::sync::Cache::builder().max_capacity(BYTES).weigher(weigher).build(),
            anywhere: ArcSwapOption::empty(),
        }
    }
}

impl Landings {
    /// The platforms a pod can land on. An unknown `RuntimeClass` narrows nothing.
    pub(super) fn of(&self, snapshot: &Snapshot, placement: &Placement) -> Arc<Platforms> {
        let land = || {
            let class = placement.runtime_class.as_ref().and_then(|name| snapshot.runtime_classes.get(name));
            let joined = class.map(|selector| placement::of_class(placement, selector));
            let placement = joined.as_ref().unwrap_or(placement);
            Arc::new(placement::platforms(placement, &snapshot.nodes, &snapshot.platforms))
        };
        if *placement == Placement::default() {
            let kept = self.anywhere.load();
            if let Some((_, platforms)) = kept.as_deref().filter(|(of, _)| *of == snapshot.landscape) {
                return Arc::clone(platforms);
            }
            let platforms = land();
            self.anywhere.store(Some(Arc::new((snapshot.landscape, Arc::clone(&platforms)))));
            return platforms;
        }
        if weigh::placement(placement) > LARGEST {
            return land();
        }
        self.kept.get_with((snapshot.landscape, placement.clone()), land)
    }

    /// How many bytes are held.
    pub(super) fn bytes(&self) -> u64 {
        weigh::held(&self.kept)
    }
}
