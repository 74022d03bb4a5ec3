//! The one control plane of this test binary.

use std::{ops::Deref, sync::LazyLock, thread};

use bonafide_kit::plane::ControlPlane;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One that does not come up is not waited for again: the second test to look at it fails at once.
static PLANE: LazyLock<Option<RwLock<ControlPlane>>> =
    LazyLock::new(|| ControlPlane::start().map(RwLock::new));

/// The control plane, beside other tests; `None` where the test is skipped. A test takes it once.
pub fn shared() -> Option<Shared> {
    PLANE.as_ref().map(|plane| Shared(plane.read()))
}

/// The control plane, while no other test uses it; `None` where the test is skipped.
pub fn alone() -> Option<Alone> {
    PLANE.as_ref().map(|plane| Alone(plane.write()))
}

/// What [`shared`] gives.
pub struct Shared(RwLockReadGuard<'static, ControlPlane>);

/// What [`alone`] gives. No webhook is left configured when it is dropped, or later tests would wait for one that is gone.
pub struct Alone(RwLockWriteGuard<'static, ControlPlane>);

impl Deref for Shared {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.0
    }
}

impl Deref for Alone {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        tell_if_failed(self);
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        tell_if_failed(self);
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        self.kubectl(&["delete", kinds, "--all"]);
    }
}

/// The harness shows what a failed test printed.
fn tell_if_failed(plane: &ControlPlane) {
    if thread::panicking() {
        println!("{}", plane.logs());
    }
}
