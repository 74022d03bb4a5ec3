//! The one control plane of this test binary.

use std::{
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

use bonafide_kit::plane::ControlPlane;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One that does not come up is not waited for again: the second test to look at it fails at once.
static PLANE: LazyLock<Option<RwLock<ControlPlane>>> =
    LazyLock::new(|| ControlPlane::start().map(RwLock::new));

/// The control plane, beside other tests; `None` where the test is skipped. A test takes it once.
pub fn shared() -> Option<RwLockReadGuard<'static, ControlPlane>> {
    PLANE.as_ref().map(RwLock::read)
}

/// The control plane, while no other test uses it; `None` where the test is skipped.
pub fn alone() -> Option<Alone> {
    PLANE.as_ref().map(|plane| Alone(plane.write()))
}

/// What [`alone`] gives. No webhook is left configured when it is dropped, or later tests would wait for one that is gone.
pub struct Alone(RwLockWriteGuard<'static, ControlPlane>);

impl Deref for Alone {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.0
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut ControlPlane {
        &mut self.0
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        self.0.kubectl(&["delete", kinds, "--all"]);
    }
}
