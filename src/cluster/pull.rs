//! Pull secrets: those that a pod names, then those of its service account. Only named objects are read, one by one, where a review
//! must ask a registry; they are kept for a short time and never listed.

use std::{borrow::Cow, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, future::BoxFuture, stream};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Client, Error, Resource, api::GetParams, core::Request};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    call,
    shares::Shares,
    split::{self, Form, Part},
};
use crate::{
    domain::workload::Workload,
    gather::{
        ports::{Keychain, PullSecret},
        weigh::capped,
    },
};

/// How long what was read is kept.
const KEPT: Duration = Duration::from_secs(30);
/// How many bytes of secrets are kept, and of what service accounts name.
const SECRET_BYTES: u64 = 4 << 20;
const ACCOUNT_BYTES: u64 = 2 << 20;
/// How many secrets of one workload are used, and how many are read at once.
const SECRETS: usize = 16;
const AT_ONCE: usize = 4;
/// The most bytes of one secret that is used, and of all secrets of one workload.
const LARGEST: usize = 64 << 10;
const OF_WORKLOAD: usize = 128 << 10;
/// How many objects are read at once: for all namespaces, and for one. Each may be as large as the API server stores.
const READS: usize = 4;
const READS_OF_NAMESPACE: usize = 2;
/// The longest name that an object can have (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The service account of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// A namespace and a name.
type Key = (String, String);

/// Reads pull secrets.
pub struct PullSecrets {
    client: Client,
    reads: Shares,
    secrets: moka::future::Cache<Key, Option<PullSecret>>,
    accounts: moka::future::Cache<Key, Arc<[String]>>,
}

impl PullSecrets {
    /// Nothing is read yet.
    pub fn new(client: Client) -> Arc<Self> {
        let key_bytes = |(namespace, name): &Key| namespace.len().saturating_add(name.len());
        Arc::new(Self {
            client,
            reads: Shares::new(READS, READS_OF_NAMESPACE),
            secrets: moka::future::Cache::builder()
                .max_capacity(SECRET_BYTES)
                .weigher(move |key: &Key, secret: &Option<PullSecret>| {
                    let bytes = secret.as_ref().map_or(0, |secret| secret.config.len());
                    capped(bytes.saturating_add(key_bytes(key)))
                })
                .time_to_live(KEPT)
                .build(),
            accounts: moka::future::Cache::builder()
                .max_capacity(ACCOUNT_BYTES)
                .weigher(move |key: &Key, names: &Arc<[String]>| {
                    let each = names.iter().map(|name| name.len().saturating_add(size_of::<String>()));
                    capped(each.fold(key_bytes(key), usize::saturating_add))
                })
                .time_to_live(KEPT)
                .build(),
        })
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> u64 {
        self.secrets.weighted_size().saturating_add(self.accounts.weighted_size())
    }

    async fn names(&self, workload: &Workload) -> Vec<String> {
        let mut names: Vec<String> = bounded(workload.pull.secrets.iter().map(String::as_str));
        // The API server has given a pod that names none those of its account already; templates are not made yet.
        if workload.kind != "Pod" || names.is_empty() {
            let account = workload.pull.service_account.as_deref().unwrap_or(DEFAULT_ACCOUNT);
            names.extend(self.of_account(&workload.namespace, account).await.iter().cloned());
        }
        bounded(names.iter().map(String::as_str))
    }

    /// Reads an object, as far as `read` does; `None` where it is not there.
    async fn get<K: Resource<DynamicType = ()>, T>(
        &self,
        namespace: &str,
        name: &str,
        read: impl Fn(&[u8]) -> serde_json::Result<T>,
    ) -> Result<Option<T>, Error> {
        let path = K::url_path(&(), Some(namespace));
        let request = Request::new(path).get(name, &GetParams::default()).map_err(Error::BuildRequest)?;
        let reading = async {
            let _permits = self.reads.acquire(namespace).await;
            let mut found = None;
            let got = split::read(&self.client, request, Form::Events, |part| {
                if let Part::Object(bytes) = part {
                    found = Some(read(bytes).map_err(Error::SerdeError)?);
                }
                Ok(())
            });
            match got.await {
                Ok(()) => Ok(found),
                Err(Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        };
        call::within(PATIENCE, reading).await
    }

    async fn of_account(&self, namespace: &str, account: &str) -> Arc<[String]> {
        if !is_name(account) {
            return Arc::default();
        }
        let read = async {
            let found = self.get::<ServiceAccount, _>(namespace, account, secrets_of_account);
            let names = found.await.map_err(|error| call::words(&error))?.unwrap_or_default();
            Ok(names.into())
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
            let found = self.get::<Secret, _>(namespace, name, config);
            Ok(match found.await.map_err(|error| call::words(&error))? {
                Some(Config::Usable(secret)) => Some(secret),
                Some(Config::TooLarge) => {
                    let most_kib = LARGEST >> 10;
                    tracing::warn!(
                        namespace,
                        secret = name,
                        most_kib,
                        "a pull secret is too large and is not used"
                    );
                    None
                }
                Some(Config::Other) | None => None,
            })
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
            let mut left = OF_WORKLOAD;
            stream::iter(reading.collect::<Vec<_>>())
                .buffered(AT_ONCE)
                .filter_map(|secret| {
                    // The first ones are those that the pod's author put first.
                    let fits = secret.filter(|secret| secret.config.len() <= left);
                    left = left.saturating_sub(fits.as_ref().map_or(0, |secret| secret.config.len()));
                    std::future::ready(fits)
                })
                .collect()
                .await
        })
    }
}

/// The first names that objects can have, each once.
fn bounded<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    names.filter(|name| is_name(name) && seen.insert(*name)).take(SECRETS).map(ToOwned::to_owned).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME
}

/// What a Secret is to whoever pulls.
#[derive(Debug, PartialEq, Eq)]
enum Config {
    Usable(PullSecret),
    TooLarge,
    /// It holds no docker configuration.
    Other,
}

/// The docker configuration in a Secret of one of the types that pods are pulled with. Whatever else it holds is passed over.
fn config(json: &[u8]) -> serde_json::Result<Config> {
    #[derive(Deserialize)]
    struct Parts<'a> {
        r#type: Option<&'a str>,
        #[serde(borrow, default)]
        data: Option<Data<'a>>,
    }

    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(rename = ".dockerconfigjson", borrow)]
        json: Option<&'a RawValue>,
        #[serde(rename = ".dockercfg", borrow)]
        older: Option<&'a RawValue>,
    }

    /// What base64 makes of so many bytes.
    const ENCODED: usize = LARGEST.div_ceil(3) * 4 + 2;

    let Parts { r#type, data: Some(Data { json, older }) } = serde_json::from_slice(json)? else {
        return Ok(Config::Other);
    };
    let (text, is_older) = match r#type {
        Some("kubernetes.io/dockerconfigjson") => (json, false),
        Some("kubernetes.io/dockercfg") => (older, true),
        _ => return Ok(Config::Other),
    };
    let Some(text) = text.map(RawValue::get) else { return Ok(Config::Other) };
    if text.len() > ENCODED {
        return Ok(Config::TooLarge);
    }
    let encoded: Option<String> = serde_json::from_str(text)?;
    let decoded = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Ok(Config::Other);
    };
    // The older form is the list of credentials alone.
    let config = if is_older { format!(r#"{{"auths":{text}}}"#) } else { text };
    Ok(Config::Usable(PullSecret { config: config.into() }))
}

/// The names of a service account's pull secrets, as many as are used.
fn secrets_of_account(json: &[u8]) -> serde_json::Result<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Account<'a> {
        #[serde(borrow, default)]
        image_pull_secrets: Option<Vec<Named<'a>>>,
    }

    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, default)]
        name: Option<Cow<'a, str>>,
    }

    let account: Account<'_> = serde_json::from_slice(json)?;
    let names = account.image_pull_secrets.unwrap_or_default();
    Ok(bounded(names.iter().filter_map(|named| named.name.as_deref())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(kind: &str, key: &str, text: &str) -> Vec<u8> {
        let other = "x".repeat(100);
        json!({"type": kind, "data": {"other": other, key: STANDARD.encode(text)}}).to_string().into_bytes()
    }

    #[test]
    fn both_forms_of_a_pull_secret_are_read_and_no_other_secret_is() {
        let read = |kind, key, text| match config(&secret(kind, key, text)).unwrap() {
            Config::Usable(secret) => Some(secret.config.to_string()),
            Config::TooLarge | Config::Other => None,
        };
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

    #[test]
    fn b7_a_secret_is_used_up_to_so_many_bytes() {
        let read = |length| {
            config(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &"x".repeat(length)))
        };
        assert!(matches!(read(LARGEST).unwrap(), Config::Usable(_)));
        assert_eq!(read(LARGEST + 10).unwrap(), Config::TooLarge);
    }

    #[test]
    fn b7_names_are_used_up_to_so_many_and_each_once() {
        let names: Vec<Value> = (0..100_000).map(|n| json!({"name": format!("s{}", n / 2)})).collect();
        let used = secrets_of_account(json!({"imagePullSecrets": names}).to_string().as_bytes()).unwrap();
        assert_eq!((used.len(), used[0].as_str(), used[1].as_str()), (SECRETS, "s0", "s1"));
        let long = "x".repeat(LONGEST_NAME + 1);
        assert_eq!(bounded([long.as_str(), "", "a"].into_iter()), ["a"]);
        assert_eq!(secrets_of_account(b"{}").unwrap(), [""; 0]);
    }
}
