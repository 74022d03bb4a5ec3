//! The one control plane of this test binary.

use std::{
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use bonafide_kit::plane::ControlPlane;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

fn cell() -> Option<&'static RwLock<ControlPlane>> {
    static PLANE: OnceLock<Option<RwLock<ControlPlane>>> = OnceLock::new();
    PLANE.get_or_init(|| ControlPlane::start().map(RwLock::new)).as_ref()
}

/// The control plane, beside other tests; `None` where the test is skipped. A test takes it once.
pub fn shared() -> Option<RwLockReadGuard<'static, ControlPlane>> {
    cell().map(RwLock::read)
}

/// The control plane, while no other test uses it; `None` where the test is skipped.
pub fn alone() -> Option<Alone> {
    cell().map(|cell| Alone(cell.write()))
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
