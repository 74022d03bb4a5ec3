//! The tokens by which API servers show who they are (KEP-6060), verified here: with the keys that the API server publishes, for the
//! entries of our own webhook configurations.

pub mod token;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::{Api, Client, api::ObjectMeta};
use parking_lot::Mutex;
use serde::Deserialize;
use token::{ConfigurationKind, Expected, SigningKey, TokenError};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{
    call::{self, Trouble},
    webhooks::PROBE_PATH,
};
use crate::domain::digest::{Digest, Hasher};

/// Where an API server says who issues its tokens (`OpenID` Connect Discovery 1.0).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where it publishes the keys of its tokens.
const KEYS: &str = "/openid/v1/jwks";
/// How often the keys are read again at most, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(5);
/// How old keys may be before they are read again in the background.
const AGE: Duration = Duration::from_mins(10);
/// How many verified tokens are remembered.
const REMEMBERED: u64 = 1024;

/// Who we are, as tokens name us.
#[derive(Debug, Clone)]
pub struct WebhookIdentity {
    /// The name of the Service and of both configurations.
    pub name: String,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's port.
    pub port: u16,
    /// Subjects whose tokens count although they are not bound to a configuration.
    pub subjects: Vec<String>,
}

/// Verifies API servers' tokens.
pub struct ApiServerTokens {
    client: Client,
    identity: WebhookIdentity,
    known: ArcSwap<TokenIssuer>,
    /// When it was read last, or tried to.
    reading: AsyncMutex<Option<Instant>>,
    /// Tokens that were verified: until when they count, and by which reading.
    verified: moka::sync::Cache<Digest, (i64, u64)>,
    trouble: Mutex<Trouble>,
}

/// What the API server says of its tokens, and the UIDs of our configurations.
#[derive(Default)]
struct TokenIssuer {
    /// Counts the readings; 0: nothing was read yet.
    reading: u64,
    read_at: Option<Instant>,
    /// As the `iss` of its tokens.
    url: String,
    keys: Vec<SigningKey>,
    validating: Option<String>,
    mutating: Option<String>,
}

#[derive(Deserialize)]
struct DiscoveryIn {
    issuer: String,
}

impl ApiServerTokens {
    /// Nothing is asked of the API server yet.
    pub fn new(client: Client, identity: WebhookIdentity) -> Arc<Self> {
        Arc::new(Self {
            client,
            identity,
            known: ArcSwap::default(),
            reading: AsyncMutex::default(),
            verified: moka::sync::Cache::new(REMEMBERED),
            trouble: Mutex::new(Trouble::new("read the keys of the API server's tokens")),
        })
    }

    /// Whether a token is one that an API server presents to the entry with this path.
    ///
    /// # Errors
    /// Why it is not, or cannot be known before `deadline`.
    pub async fn verify(self: &Arc<Self>, token: &str, path: &str, deadline: Instant) -> Result<(), String> {
        let known = self.known.load_full();
        if known.read_at.is_some_and(|at| at.elapsed() >= AGE) {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.read_after(this.known.load().reading).await });
        }
        match self.verify_with(&known, token, path) {
            Ok(()) => return Ok(()),
            Err(error) if known.reading > 0 && !may_be_outdated(&error) => return Err(error.to_string()),
            Err(_) => {}
        }
        let read = tokio::time::timeout_at(deadline, self.read_after(known.reading)).await;
        let failed = match read {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("the API server did not answer in time".to_owned()),
        };
        let known = self.known.load_full();
        if let Some(why) = failed.filter(|_| known.reading == 0) {
            return Err(format!("the keys of the API server's tokens could not be read: {why}"));
        }
        self.verify_with(&known, token, path).map_err(|error| error.to_string())
    }

    fn verify_with(&self, known: &TokenIssuer, token: &str, path: &str) -> Result<(), TokenError> {
        let now = token::now();
        let mut content = Hasher::default();
        content.add(path.as_bytes());
        content.add(&[0]);
        content.add(token.as_bytes());
        let content = content.digest();
        if self.verified.get(&content).is_some_and(|(end, reading)| reading == known.reading && now < end) {
            return Ok(());
        }
        let WebhookIdentity { name, namespace, port, subjects } = &self.identity;
        let validating = (ConfigurationKind::Validating, known.validating.as_deref());
        let mutating = (ConfigurationKind::Mutating, known.mutating.as_deref());
        let both = [validating, mutating];
        let configurations = match path {
            PROBE_PATH => both.as_slice(),
            "/mutate" => std::slice::from_ref(&mutating),
            _ => std::slice::from_ref(&validating),
        };
        let expected = Expected {
            issuer: &known.url,
            audience: &format!("https://{name}.{namespace}.svc:{port}{path}"),
            name,
            configurations,
            subjects,
            now,
        };
        let end = token::verify(token, &known.keys, &expected)?;
        self.verified.insert(content, (end, known.reading));
        Ok(())
    }

    /// Reads the keys again, unless somebody did after `seen`, or tried to a moment ago.
    async fn read_after(&self, seen: u64) -> Result<(), String> {
        let mut last = self.reading.lock().await;
        let known = self.known.load_full();
        if known.reading > seen {
            return Ok(());
        }
        if last.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err("they were asked for a moment ago".to_owned());
        }
        *last = Some(Instant::now());
        match self.read(known.reading).await {
            Ok(read) => {
                self.known.store(Arc::new(read));
                self.trouble.lock().is_over();
                Ok(())
            }
            Err(error) => {
                let why = call::words(&error);
                self.trouble.lock().goes_on(&why);
                Err(why)
            }
        }
    }

    async fn read(&self, before: u64) -> Result<TokenIssuer, kube::Error> {
        let text = async |path: &str| {
            let request = axum::http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
            call::within(call::LIMIT, self.client.request_text(request)).await
        };
        let discovery: DiscoveryIn =
            serde_json::from_str(&text(DISCOVERY).await?).map_err(kube::Error::SerdeError)?;
        let keys = token::read_keys(&text(KEYS).await?).map_err(kube::Error::SerdeError)?;
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating = call::within(call::LIMIT, validating.get_opt(&self.identity.name)).await?;
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mutating = call::within(call::LIMIT, mutating.get_opt(&self.identity.name)).await?;
        let uid = |metadata: ObjectMeta| metadata.uid;
        Ok(TokenIssuer {
            reading: before.saturating_add(1),
            read_at: Some(Instant::now()),
            url: discovery.issuer,
            keys,
            validating: validating.and_then(|object| uid(object.metadata)),
            mutating: mutating.and_then(|object| uid(object.metadata)),
        })
    }
}

/// Whether what is known of the API server may be older than the token.
const fn may_be_outdated(error: &TokenError) -> bool {
    match error {
        TokenError::UnknownKey | TokenError::OtherUid => true,
        // The signature of an issuer that made new keys by the same names, and a claim, are wrong for good until the next reading.
        TokenError::Malformed(_) | TokenError::Signature | TokenError::Claim(_) => false,
    }
}

#[cfg(test)]
mod tests;
