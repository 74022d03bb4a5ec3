//! Writing the entries of a configuration.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use super::{
    MANAGER,
    entries::{Entries, Kind},
};
use crate::cluster::call;

/// Writes the entries. Where somebody added to them what an apply does not remove, such as a condition of his own, the list is replaced.
pub(super) async fn write(
    kind: Kind,
    api: &Api<DynamicObject>,
    name: &str,
    object: &DynamicObject,
    wanted: &Entries,
) -> Result<(), kube::Error> {
    let resource = kind.resource();
    // With the uid, an object that was removed meanwhile is not made anew.
    let body = |metadata: Value, webhooks: &[Value]| {
        json!({
            "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "webhooks": webhooks,
        })
    };
    let uid = &object.metadata.uid;
    let applied = {
        let patch = Patch::Apply(body(json!({"name": name, "uid": uid}), wanted.json()));
        let params = PatchParams::apply(MANAGER).force();
        call::within(call::LIMIT, api.patch(name, &params, &patch)).await?
    };
    let seen = Entries::seen(&applied);
    if seen.are(wanted) {
        return Ok(());
    }
    let version = &applied.metadata.resource_version;
    let metadata = json!({"uid": uid, "resourceVersion": version});
    let patch = Patch::Merge(body(metadata, &seen.replaced(wanted)));
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    call::within(call::LIMIT, api.patch(name, &params, &patch)).await.map(drop)
}
