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
    narrow::WIDENED,
};
use crate::cluster::call;

/// Writes the entries, unless somebody wrote since the object was read: it may have been widened for a policy. Where somebody added to
/// them what an apply does not remove, such as another condition, the list is replaced.
pub(super) async fn write(
    kind: Kind,
    api: &Api<DynamicObject>,
    name: &str,
    object: &DynamicObject,
    wanted: &Entries,
    widened: Option<&str>,
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
        let mut metadata =
            json!({"name": name, "uid": uid, "resourceVersion": object.metadata.resource_version});
        if let (Some(widened), Some(metadata)) = (widened, metadata.as_object_mut()) {
            metadata.insert("annotations".to_owned(), json!({WIDENED: widened}));
        }
        let patch = Patch::Apply(body(metadata, wanted.json()));
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
