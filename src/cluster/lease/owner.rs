//! Whose the Lease is: the service account's, so that the Lease goes when the account does. The leader makes the Lease, and the installation
//! does not know of it.

use k8s_openapi::{
    api::{authentication::v1::SelfSubjectReview, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, api::PostParams};

/// The kind of the owner.
const KIND: &str = "ServiceAccount";

/// The owner, once it is known.
#[derive(Debug, Default)]
pub(super) struct Owner {
    found: Option<OwnerReference>,
    /// Nobody owns it: this process has no service account in the namespace, or may not set an owner.
    is_nobody: bool,
}

impl Owner {
    /// Names the owner in the Lease. Whether that changes anything of it.
    pub(super) async fn own(&mut self, client: Client, namespace: &str, lease: &mut Lease) -> bool {
        if self.is_nobody {
            return false;
        }
        if self.found.is_none() {
            self.find(client, namespace).await;
        }
        let Some(owner) = &self.found else { return false };
        let owners = lease.metadata.owner_references.get_or_insert_default();
        if owners.contains(owner) {
            return false;
        }
        owners.retain(|other| other.kind != KIND);
        owners.push(owner.clone());
        true
    }

    /// The owner cannot be set.
    pub(super) fn give_up(&mut self, why: &str) {
        tracing::info!(why, "the Lease gets no owner, and stays when Bonafide is uninstalled");
        *self = Self { found: None, is_nobody: true };
    }

    async fn find(&mut self, client: Client, namespace: &str) {
        let api: Api<SelfSubjectReview> = Api::all(client);
        match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
            Ok(review) => {
                self.found = account(review, namespace);
                self.is_nobody = self.found.is_none();
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 403..=405) => {
                self.give_up(&status.message);
            }
            // It is looked up again with the next renewal.
            Err(_) => {}
        }
    }
}

/// The service account that a review says this process is, where it is one of the namespace.
fn account(review: SelfSubjectReview, namespace: &str) -> Option<OwnerReference> {
    let user = review.status?.user_info?;
    let name = user.username?.strip_prefix(&format!("system:serviceaccount:{namespace}:"))?.to_owned();
    let uid = user.uid.filter(|uid| !uid.is_empty())?;
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: KIND.to_owned(),
        name,
        uid,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn e8_the_owner_is_the_service_account_of_the_namespace() {
        let of = |username: &str, uid: &str| {
            let review = json!({"status": {"userInfo": {"username": username, "uid": uid}}});
            account(serde_json::from_value(review).unwrap(), "ns").map(|owner| (owner.name, owner.uid))
        };
        let expected = Some(("bonafide".to_owned(), "u".to_owned()));
        assert_eq!(of("system:serviceaccount:ns:bonafide", "u"), expected);
        for (other, uid) in [("system:serviceaccount:other:bonafide", "u"), ("admin", "u")] {
            assert_eq!(of(other, uid), None);
        }
        assert_eq!(of("system:serviceaccount:ns:bonafide", ""), None);
    }
}
