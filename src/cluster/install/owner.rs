//! Both configurations are owned by the release's Namespace object: they go when the namespace goes, so that no entry is left that
//! nothing answers. A chart cannot say so, since it does not know the uid.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    core::{DynamicObject, PartialObjectMeta},
};
use serde_json::json;
use tokio::time::Instant;

use super::{Keeper, MANAGER, entries::Kind};
use crate::cluster::call;

/// How often it is looked up.
const LOOK_UP_NAMESPACE: Duration = Duration::from_secs(30);

/// The release's Namespace object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnNamespace {
    name: String,
    uid: String,
    is_terminating: bool,
}

/// Looks up the release's namespace; `None`: there is no such object. Listing it needs no right that following namespaces does not.
pub(super) async fn look_up(client: &Client, name: &str) -> Result<Option<OwnNamespace>, kube::Error> {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let one = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = call::within(call::LIMIT, namespaces.list_metadata(&one)).await?;
    let own = found.items.into_iter().find(|namespace| namespace.metadata.name.as_deref() == Some(name));
    Ok(own.and_then(|own| {
        let is_terminating = own.metadata.deletion_timestamp.is_some();
        own.metadata.uid.map(|uid| OwnNamespace { name: name.to_owned(), uid, is_terminating })
    }))
}

impl Keeper {
    pub(super) async fn look_up_namespace(&mut self) {
        let now = Instant::now();
        let is_recent = |(_, at): &(OwnNamespace, Instant)| now.duration_since(*at) < LOOK_UP_NAMESPACE;
        if self.own_namespace.as_ref().is_some_and(is_recent) {
            return;
        }
        match look_up(&self.client, &self.webhooks.namespace).await {
            Ok(found) => {
                self.owning.is_over();
                self.own_namespace = found.map(|namespace| (namespace, now));
            }
            // It stays the same for as long as there is one of this name.
            Err(error) => self.owning.goes_on(&call::words(&error)),
        }
    }

    /// Sets the owner of a configuration. Whether that was written.
    pub(super) async fn is_owned_anew(&mut self, api: &Api<DynamicObject>, object: &DynamicObject) -> bool {
        let Some(owners) = self.own_namespace.as_ref().and_then(|(own, _)| own.wanted_owners(object)) else {
            return false;
        };
        match write(api, &self.webhooks.name, object, &owners).await {
            Ok(()) => true,
            Err(kube::Error::Api(status)) if status.code == 409 => true,
            Err(error) => {
                self.owning.goes_on(&call::words(&error));
                false
            }
        }
    }
}

impl OwnNamespace {
    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }

    /// The owners that the object is to have; `None` where it has them. A Namespace of another uid is no owner: the garbage collector
    /// would delete the object for it, as after the restore of a backup.
    pub(super) fn wanted_owners(&self, object: &DynamicObject) -> Option<Vec<OwnerReference>> {
        let seen = object.metadata.owner_references.clone().unwrap_or_default();
        let own = self.reference();
        let is_namespace =
            |owner: &OwnerReference| owner.kind == own.kind && owner.api_version == own.api_version;
        let others = seen.iter().filter(|owner| !is_namespace(owner)).cloned();
        let wanted: Vec<OwnerReference> = others.chain([own.clone()]).collect();
        (seen != wanted).then_some(wanted)
    }
}

/// Writes the owners of a configuration, unless somebody else wrote to it since it was read.
pub(super) async fn write(
    api: &Api<DynamicObject>,
    name: &str,
    object: &DynamicObject,
    owners: &[OwnerReference],
) -> Result<(), kube::Error> {
    let metadata = json!({
        "uid": object.metadata.uid,
        "resourceVersion": object.metadata.resource_version,
        "ownerReferences": owners,
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"metadata": metadata}));
    call::within(call::LIMIT, api.patch(name, &params, &patch)).await.map(drop)
}

/// Deletes both configurations where the release's namespace is being deleted. The garbage collector does so too, but only once the
/// namespace is gone, and until then they would have requests wait for a webhook that has ended.
pub async fn delete_with_namespace(client: &Client, name: &str, namespace: &str) {
    match look_up(client, namespace).await {
        Ok(Some(own)) if own.is_terminating => {}
        Ok(_) => return,
        Err(error) => {
            let error = call::words(&error);
            tracing::warn!(namespace, error, "cannot see whether the namespace is being deleted");
            return;
        }
    }
    for kind in Kind::ALL {
        let resource = kind.resource();
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let deleted = async {
            let Some(object) = call::within(call::LIMIT, api.get_opt(name)).await? else { return Ok(()) };
            let preconditions = Preconditions { uid: object.metadata.uid, resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            call::within(call::LIMIT, api.delete(name, &params)).await.map(drop)
        };
        let kind = &resource.kind;
        match deleted.await {
            Ok(()) => tracing::info!(kind, name, namespace, "deleted with its namespace"),
            // Another replica was first.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => {
                let error = call::words(&error);
                tracing::error!(kind, name, namespace, error, "cannot be deleted with its namespace");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b8_a_configuration_has_the_live_namespace_as_its_owner_and_no_other() {
        let own = OwnNamespace { name: "ns".to_owned(), uid: "live".to_owned(), is_terminating: false };
        let owned_by = |owners: &[(&str, &str)]| {
            let of = |(kind, uid): &(&str, &str)| json!({"apiVersion": "v1", "kind": kind, "name": "ns", "uid": uid});
            let owners: Vec<serde_json::Value> = owners.iter().map(of).collect();
            let object = json!({"metadata": {"ownerReferences": owners}});
            let wanted = own.wanted_owners(&serde_json::from_value(object).unwrap());
            wanted.map(|all| all.into_iter().map(|owner| owner.uid).collect::<Vec<String>>())
        };
        assert_eq!(owned_by(&[("Namespace", "live")]), None);
        assert_eq!(owned_by(&[("ConfigMap", "x"), ("Namespace", "live")]), None);
        assert_eq!(owned_by(&[]), Some(vec!["live".to_owned()]));
        assert_eq!(owned_by(&[("Namespace", "stale")]), Some(vec!["live".to_owned()]));
        let both = owned_by(&[("Namespace", "stale"), ("ConfigMap", "x")]);
        assert_eq!(both, Some(vec!["x".to_owned(), "live".to_owned()]));
    }
}
