//! The serving certificate where Bonafide manages it itself: an authority and a certificate of it in a Secret.
//!
//! Every replica reads the Secret every second and serves with what it finds, where that is of use; what is not leaves the last
//! certificate in force, and so does an API server that is away. The leader makes what is missing, renews what ends, and repairs what
//! somebody spoilt.

mod authority;
mod content;
mod decide;
mod issue;

use std::{fmt, sync::Arc, time::Duration};

use content::{CERTIFICATE, Content, KEY, KEYS, Names};
use decide::{Action, View, decide, is_whole, perform};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::Instant};

use super::call::{self, Trouble};

/// Who is named as the one that wrote a field.
const MANAGER: &str = "bonafide";
/// How often the Secret is read.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked into though nothing changed: times pass.
const LOOK_INTO: Duration = Duration::from_mins(1);
/// How soon after a write it is read again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a Secret that is served from must be gone until it is made anew: whoever uninstalls removes the replicas too.
const GONE: Duration = Duration::from_secs(5);
/// The longest that API servers are given to learn of a new authority.
const OVERLAP: Duration = Duration::from_mins(5);
/// The shortest life of a certificate.
const SHORTEST: Duration = Duration::from_secs(5);

/// The authorities that clients must trust: PEM, always in the same form.
pub type Bundle = Arc<[u8]>;

/// What the API server was seen to trust, by whoever keeps the webhook configurations.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The bundle that every configuration has.
    pub bundle: Bundle,
    /// Since when.
    pub since: Instant,
}

/// How long things are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    certificate: Duration,
    authority: Duration,
    overlap: Duration,
}

/// Why lifetimes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifetimesError {
    /// The certificate would have to be renewed all the time.
    #[error("a certificate must be valid for at least {}s", SHORTEST.as_secs())]
    TooShort,
    /// The authority would end before a certificate that it signs while the next one is introduced.
    #[error("an authority must be valid for at least three times as long as a certificate")]
    Authority,
}

impl Lifetimes {
    /// Lifetimes for certificates and their authorities.
    ///
    /// # Errors
    /// Where one of them is too short.
    pub fn new(certificate: Duration, authority: Duration) -> Result<Self, LifetimesError> {
        if certificate < SHORTEST {
            return Err(LifetimesError::TooShort);
        }
        if authority / 3 < certificate {
            return Err(LifetimesError::Authority);
        }
        Ok(Self { certificate, authority, overlap: OVERLAP.min(certificate / 6) })
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { certificate: DAY * 90, authority: DAY * 730, overlap: OVERLAP }
    }
}

/// Whose certificate, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of the Service and of the Secret.
    pub namespace: String,
    /// The name of the Service; the Secret is NAME-tls.
    pub name: String,
    /// How long things are valid.
    pub lifetimes: Lifetimes,
}

/// What the loop is connected to.
#[derive(Debug)]
pub struct Links {
    /// Whether this replica leads.
    pub leads: watch::Receiver<bool>,
    /// What the API server trusts.
    pub installed: watch::Receiver<Option<Installed>>,
    /// Told whom to trust, once this replica serves with a certificate of theirs.
    pub bundle: watch::Sender<Option<Bundle>>,
}

/// Reads the Secret, and keeps it where this replica leads, until `shutdown` is over. `serve` is given each new certificate with its key
/// (PEM), and answers why it cannot be served with where that is so.
pub async fn run(
    client: Client,
    settings: Settings,
    links: Links,
    serve: impl FnMut(&[u8], &[u8]) -> Result<(), String> + Send,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut keeper = Keeper {
        api: Api::namespaced(client, &settings.namespace),
        secret: format!("{}-tls", settings.name),
        names: Names::of(&settings.name, &settings.namespace),
        settings,
        links,
        serve,
        served: None,
        kept: None,
        gone_since: None,
        checked: None,
        reading: Trouble::new("read the Secret of the certificate"),
        using: Trouble::new("use what the Secret of the certificate holds"),
        writing: Trouble::new("write the Secret of the certificate"),
    };
    tokio::select! {
        () = keeper.keep() => {}
        () = shutdown => {}
    }
}

struct Keeper<F> {
    api: Api<Secret>,
    secret: String,
    names: Names,
    settings: Settings,
    links: Links,
    serve: F,
    /// The pair that is served with.
    served: Option<(Vec<u8>, Vec<u8>)>,
    /// The last content that was whole.
    kept: Option<Content>,
    gone_since: Option<Instant>,
    /// What was looked into last, and when.
    checked: Option<(Circumstances, Instant)>,
    reading: Trouble,
    using: Trouble,
    writing: Trouble,
}

/// What there is to be done depends on this, and on the time.
#[derive(PartialEq)]
struct Circumstances {
    content: Content,
    leads: bool,
    trusted_since: Option<Instant>,
}

impl<F: FnMut(&[u8], &[u8]) -> Result<(), String> + Send> Keeper<F> {
    async fn keep(&mut self) {
        loop {
            let wait = if self.round().await { LOOK_AGAIN } else { LOOK };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Whoever begins to lead begins at once. Where nobody can any more, this replica only reads on.
                Ok(()) = self.links.leads.changed() => {}
            }
        }
    }

    /// Looks once. Whether something was written.
    async fn round(&mut self) -> bool {
        let secret = match call::within(call::LIMIT, self.api.get_opt(&self.secret)).await {
            Ok(secret) => secret,
            Err(error) => {
                self.reading.goes_on(&call::words(&error));
                return false;
            }
        };
        self.reading.is_over();
        let now = Timestamp::now();
        let leads = *self.links.leads.borrow_and_update();
        let content = secret.as_ref().map(content_of);
        if let Some(content) = &content {
            self.gone_since = None;
            if self.is_known(content, leads) {
                return false;
            }
            self.adopt(content, now);
        }
        if !leads {
            return false;
        }
        if content.is_none() && self.kept.is_some() {
            let gone = self.gone_since.get_or_insert_with(Instant::now);
            // A certificate must not end meanwhile.
            if gone.elapsed() < GONE.min(self.settings.lifetimes.certificate / 6) {
                return false;
            }
        }
        self.maintain(secret, content.as_ref(), now).await
    }

    /// Whether this was looked into a short time ago; signatures need not be verified every second.
    fn is_known(&mut self, content: &Content, leads: bool) -> bool {
        let trusted_since = self.links.installed.borrow().as_ref().map(|installed| installed.since);
        let circumstances = Circumstances { content: content.clone(), leads, trusted_since };
        let lasts = (self.settings.lifetimes.certificate / 100).clamp(LOOK, LOOK_INTO);
        let known = self
            .checked
            .as_ref()
            .is_some_and(|(checked, at)| *checked == circumstances && at.elapsed() < lasts);
        if !known {
            self.checked = Some((circumstances, Instant::now()));
        }
        known
    }

    /// Serves with what was read, where it is of use.
    fn adopt(&mut self, content: &Content, now: Timestamp) {
        let serving = match content.serving(&self.names, now) {
            Ok(serving) => serving,
            Err(fault) => return self.using.goes_on(&fault),
        };
        // What cannot be renewed is put right by the leader; it is served with only where there is nothing better.
        let whole = is_whole(content, &self.names, now);
        if !whole && self.kept.as_ref().is_some_and(|kept| is_whole(kept, &self.names, now)) {
            return self.using.goes_on(&"the key of its authority is missing");
        }
        let value = |key| content.get(key).cloned().unwrap_or_default();
        let pair = (value(CERTIFICATE), value(KEY));
        if self.served.as_ref() != Some(&pair) {
            if let Err(why) = (self.serve)(&pair.0, &pair.1) {
                return self.using.goes_on(&why);
            }
            self.served = Some(pair);
            tracing::info!(
                not_after = serving.leaf.not_after.to_string(),
                "serving the certificate of the Secret"
            );
        }
        self.using.is_over();
        if whole && self.kept.as_ref() != Some(content) {
            self.kept = Some(content.clone());
        }
        let bundle = serving.bundle();
        self.links.bundle.send_if_modified(|known| {
            let changed = known.as_deref() != Some(bundle.as_bytes());
            if changed {
                *known = Some(bundle.as_bytes().into());
            }
            changed
        });
    }

    /// Whether API servers trust the bundle of this content, and had the time to notice.
    fn is_trusted(&self, content: Option<&Content>, now: Timestamp) -> bool {
        let serving = content.and_then(|content| content.serving(&self.names, now).ok());
        let installed = self.links.installed.borrow();
        serving.zip(installed.as_ref()).is_some_and(|(serving, installed)| {
            serving.bundle().as_bytes() == &*installed.bundle
                && installed.since.elapsed() >= self.settings.lifetimes.overlap
        })
    }

    async fn maintain(&mut self, secret: Option<Secret>, content: Option<&Content>, now: Timestamp) -> bool {
        let view = View {
            seen: content,
            kept: self.kept.as_ref(),
            is_trusted: self.is_trusted(content, now),
            names: &self.names,
            lifetimes: self.settings.lifetimes,
            now,
        };
        let action = decide(&view);
        let written = match perform(&view, &action) {
            Ok(None) => return false,
            Ok(Some(content)) => self.write(secret, &content).await.map_err(|error| call::words(&error)),
            Err(error) => Err(error.to_string()),
        };
        // Whether or not that went well, the next look is a close one.
        self.checked = None;
        match written {
            Ok(true) => {
                self.writing.is_over();
                tracing::info!("{action}");
                true
            }
            Ok(false) => false,
            Err(why) => {
                self.writing.goes_on(&why);
                false
            }
        }
    }

    /// Writes the Secret, if nobody did since it was read. Whether that was so.
    async fn write(&self, secret: Option<Secret>, content: &Content) -> Result<bool, kube::Error> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let exists = secret.is_some();
        let mut secret = secret.unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        for key in KEYS {
            match content.get(key) {
                Some(value) => drop(data.insert(key.to_owned(), ByteString(value.clone()))),
                None => drop(data.remove(key)),
            }
        }
        secret.metadata.name = Some(self.secret.clone());
        let written = call::within(call::LIMIT, async {
            if exists {
                self.api.replace(&self.secret, &params, &secret).await
            } else {
                self.api.create(&params, &secret).await
            }
        });
        match written.await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn content_of(secret: &Secret) -> Content {
    let data = secret.data.as_ref();
    Content::of(|key| Some(data?.get(key)?.0.clone()))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("the certificate is left as it is"),
            Self::Begin(cause) => write!(f, "made a certificate authority and a certificate: {cause}"),
            Self::Restore(cause) => write!(f, "restored the Secret of the certificate: {cause}"),
            Self::Replace => f.write_str(
                "restored the Secret of the certificate, which was removed, and announced a new certificate authority",
            ),
            Self::Certify(cause, _) => write!(f, "made a new certificate: {cause}"),
            Self::Announce(cause) => write!(f, "announced a new certificate authority: {cause}"),
            Self::Promote(cause, _) => {
                write!(f, "made a certificate of the new certificate authority: {cause}")
            }
            Self::Forget(kept) => {
                write!(f, "{} certificate authorities are trusted; others are not needed any more", kept.len())
            }
        }
    }
}

#[cfg(test)]
mod tests;
