//! Pull secrets: those that a pod names, then those of its service account. Only named objects are read, one by one, where a review
//! must ask a registry; they are kept for a short time and never listed.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};

use super::call;
use crate::{
    domain::workload::Workload,
    gather::ports::{Keychain, PullSecret},
};

/// How long what was read is kept.
const KEPT: Duration = Duration::from_secs(30);
/// How many objects are.
const MOST: u64 = 5_000;
/// How many secrets of one workload are used, and how many are read at once.
const SECRETS: usize = 16;
const AT_ONCE: usize = 4;
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The service account of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// A namespace and a name.
type Key = (String, String);

/// Reads pull secrets.
pub struct PullSecrets {
    client: Client,
    secrets: moka::future::Cache<Key, Option<PullSecret>>,
    accounts: moka::future::Cache<Key, Arc<[String]>>,
}

impl PullSecrets {
    /// Nothing is read yet.
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            secrets: moka::future::Cache::builder().max_capacity(MOST).time_to_live(KEPT).build(),
            accounts: moka::future::Cache::builder().max_capacity(MOST).time_to_live(KEPT).build(),
        })
    }

    async fn names(&self, workload: &Workload) -> Vec<String> {
        let mut names = workload.pull.secrets.clone();
        // The API server has given a pod that names none those of its account already; templates are not made yet.
        if workload.kind != "Pod" || names.is_empty() {
            let account = workload.pull.service_account.as_deref().unwrap_or(DEFAULT_ACCOUNT);
            names.extend(self.of_account(&workload.namespace, account).await.iter().cloned());
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names.truncate(SECRETS);
        names
    }

    async fn of_account(&self, namespace: &str, account: &str) -> Arc<[String]> {
        let read = async {
            let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
            let found = call::within(PATIENCE, accounts.get_opt(account))
                .await
                .map_err(|error| call::words(&error))?;
            let secrets = found.and_then(|found| found.image_pull_secrets).unwrap_or_default();
            Ok(secrets.into_iter().map(|secret| secret.name).filter(|name| !name.is_empty()).collect())
        };
        let key = (namespace.to_owned(), account.to_owned());
        let known: Result<Arc<[String]>, Arc<String>> = self.accounts.try_get_with(key, read).await;
        known.unwrap_or_else(|error| {
            tracing::warn!(
                namespace,
                account,
                error = error.as_str(),
                "a service account cannot be read; its pull secrets are not used"
            );
            Arc::default()
        })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Option<PullSecret> {
        let read = async {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let found =
                call::within(PATIENCE, secrets.get_opt(name)).await.map_err(|error| call::words(&error))?;
            Ok(found.and_then(config))
        };
        let key = (namespace.to_owned(), name.to_owned());
        let known: Result<Option<PullSecret>, Arc<String>> = self.secrets.try_get_with(key, read).await;
        known.unwrap_or_else(|error| {
            tracing::warn!(
                namespace,
                secret = name,
                error = error.as_str(),
                "a pull secret cannot be read and is not used"
            );
            None
        })
    }
}

impl Keychain for PullSecrets {
    fn of<'a>(&'a self, workload: &'a Workload) -> BoxFuture<'a, Vec<PullSecret>> {
        Box::pin(async move {
            let names = self.names(workload).await;
            let reading = names.iter().map(|name| self.secret(&workload.namespace, name));
            stream::iter(reading.collect::<Vec<_>>())
                .buffered(AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await
        })
    }
}

/// The docker configuration in a Secret of one of the types that pods are pulled with.
fn config(secret: Secret) -> Option<PullSecret> {
    let mut data = secret.data?;
    let mut text = |key: &str| data.remove(key).and_then(|bytes| String::from_utf8(bytes.0).ok());
    let config = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => text(".dockerconfigjson")?,
        // The older form is the list of credentials alone.
        Some("kubernetes.io/dockercfg") => format!(r#"{{"auths":{}}}"#, text(".dockercfg")?),
        _ => return None,
    };
    Some(PullSecret { config: config.into() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn secret(kind: &str, key: &str, text: &str) -> Secret {
        let data = BTreeMap::from([(key.to_owned(), ByteString(text.as_bytes().to_vec()))]);
        Secret { type_: Some(kind.to_owned()), data: Some(data), ..Secret::default() }
    }

    #[test]
    fn both_forms_of_a_pull_secret_are_read_and_no_other_secret_is() {
        let read = |kind, key, text| config(secret(kind, key, text)).map(|secret| secret.config.to_string());
        let whole = r#"{"auths":{"a.example":{}}}"#;
        assert_eq!(
            read("kubernetes.io/dockerconfigjson", ".dockerconfigjson", whole).as_deref(),
            Some(whole)
        );
        assert_eq!(
            read("kubernetes.io/dockercfg", ".dockercfg", r#"{"a.example":{}}"#).as_deref(),
            Some(whole)
        );
        assert_eq!(read("Opaque", ".dockerconfigjson", whole), None);
        assert_eq!(read("kubernetes.io/dockerconfigjson", "password", whole), None);
    }
}
