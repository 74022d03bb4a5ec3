//! The flags that say where images, trust and time come from, shared by `verify` and `review`, and what they are turned into.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    exit::Failure,
    roots::{self, RootFailure, RootFile},
    terminal,
};
use crate::{
    domain::{platform::Platform, reference::Reference, workload::Platforms},
    gather::{
        ports::{Attestations, Images as _, RootKeeper as _, TrustRoots, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Authorities, Client, ClientConfig, DockerConfig, Layout},
    server::files,
    trust::{
        Keeper, Roots,
        tuf::{self, Fetcher},
    },
};

/// The most that a file of certificate authorities may be long.
const MAX_AUTHORITIES: usize = 4 << 20;

/// Where images and trust come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sources")]
pub struct SourceArgs {
    /// Reads image and attestations from this OCI layout folder, as if it were the registry.
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,

    /// Docker config file with credentials [default: the one of docker itself].
    #[arg(long, value_name = "FILE", conflicts_with = "layout")]
    docker_config: Option<PathBuf>,

    /// A registry to speak plain http with; loopback ones need not be named.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "layout")]
    insecure_registry: Vec<String>,

    /// Certificate authorities of registries and TUF mirrors, PEM, beside those that the system trusts; repeatable.
    #[arg(long, value_name = "FILE")]
    registry_ca: Vec<PathBuf>,

    /// A Sigstore trust root (JSON) in place of the built-in public-good root; with a name, one more that signers may name.
    /// Repeatable.
    #[arg(long, value_name = "[NAME=]FILE")]
    trust_root: Vec<RootFile>,

    /// How long one look at the registry may take.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// Where images and trust come from, opened.
pub struct Sources {
    attestations: Arc<dyn Attestations>,
    layout: Option<Arc<Layout>>,
    authorities: Authorities,
    /// The trust roots.
    pub trust: Arc<Keeper>,
}

impl Sources {
    /// A reviewer that has not looked yet.
    pub fn reviewer(&self) -> Reviewer {
        let trust: Arc<dyn TrustRoots> = Arc::<Keeper>::clone(&self.trust);
        Reviewer::new(Arc::clone(&self.attestations), trust, Arc::new(Unobserved)).patient()
    }
}

impl Sources {
    /// Fetches the trust roots that are to be fetched, once. What is not fetched is told where a policy names it.
    ///
    /// # Errors
    /// Where nothing can be fetched at all.
    pub async fn fetch(&self) -> Result<(), Failure> {
        let all = self.trust.followed();
        if all.is_empty() {
            return Ok(());
        }
        let fetcher = Fetcher::new(None, self.authorities.clone().into_certificates())
            .map_err(|error| Failure::new(format!("trust roots cannot be fetched: {error}")))?;
        for root in all {
            tuf::bring(&self.trust, &fetcher, &root, Timestamp::now()).await;
        }
        Ok(())
    }

    /// Whether a layout folder says which image is meant; a registry is asked later.
    ///
    /// # Errors
    /// A folder of no image, or of several of which none is named.
    pub async fn check(&self, image: &Reference) -> Result<(), Failure> {
        let Some(layout) = &self.layout else { return Ok(()) };
        match layout.resolve(image).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::new(format!("--layout: {error}"))),
        }
    }
}

impl SourceArgs {
    /// Reads what the flags name; `roots` are the `TrustRoot` objects beside the policies.
    ///
    /// # Errors
    /// A file or folder that is not what the flag asks for.
    pub fn open(&self, roots: &[Value]) -> Result<Sources, Failure> {
        let trust = Arc::new(Keeper::new(trust(&self.trust_root)?).keeping_other_predicates());
        trust.keep(roots);
        let layout = self.layout()?;
        let authorities = authorities(&self.registry_ca).map_err(|(path, problem)| {
            Failure::new(format!("--registry-ca {}: {problem}", path.display()))
        })?;
        let attestations: Arc<dyn Attestations> = match &layout {
            Some(layout) => Arc::<Layout>::clone(layout),
            None => Arc::new(self.client(authorities.clone())?),
        };
        Ok(Sources { attestations, layout, authorities, trust })
    }

    fn layout(&self) -> Result<Option<Arc<Layout>>, Failure> {
        let Some(folder) = &self.layout else { return Ok(None) };
        match Layout::open(folder) {
            Ok(layout) => Ok(Some(Arc::new(layout))),
            Err(error) => Err(Failure::new(format!("--layout: {error}"))),
        }
    }

    fn client(&self, authorities: Authorities) -> Result<Client, Failure> {
        let config = ClientConfig {
            insecure_registries: self.insecure_registry.clone(),
            credentials: credentials(self.docker_config.as_deref())?,
            authorities,
            ..ClientConfig::default()
        };
        Client::new(config).map_err(|error| Failure::new(format!("registries cannot be asked: {error}")))
    }
}

/// The certificate authorities of files.
///
/// # Errors
/// The first file that cannot be used, and why.
pub(super) fn authorities(paths: &[PathBuf]) -> Result<Authorities, (&Path, String)> {
    let mut all = Authorities::default();
    for path in paths {
        let pem = files::read(path, MAX_AUTHORITIES).map_err(|error| (path.as_path(), error.to_string()))?;
        all.add_pem(&pem).map_err(|error| (path.as_path(), error.to_string()))?;
    }
    Ok(all)
}

/// Those of the file that is named, else of the one that docker uses, where there is one.
fn credentials(named: Option<&Path>) -> Result<DockerConfig, Failure> {
    let Some(path) = named.map(Path::to_owned).or_else(usual_docker_config) else {
        return Ok(DockerConfig::default());
    };
    let shown = path.display();
    let config = DockerConfig::load(&path)
        .map_err(|error| Failure::new(format!("--docker-config {shown}: {error}")))?;
    let helpers = config.ignored_helpers();
    if !helpers.is_empty() {
        let (helpers, shown) = (helpers.join(" "), shown.to_string());
        terminal::tell_warning(&terminal::plain(&format!(
            "{shown} names credential helpers ({helpers}); they are never run, and their registries are asked without credentials"
        )));
    }
    Ok(config)
}

/// The file that docker itself would use, where there is one.
pub(super) fn usual_docker_config() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| std::env::home_dir().map(|home| home.join(".docker")))?;
    Some(folder.join("config.json")).filter(|path| path.is_file())
}

fn trust(files: &[RootFile]) -> Result<Roots, Failure> {
    roots::load(files).map_err(|RootFailure { value, problem }| {
        Failure::new(format!("--trust-root {value}: {problem}"))
            .hint("a Sigstore trusted_root.json, as `cosign trusted-root create` or a TUF mirror gives it")
    })
}

/// Parses `30s`, `2m`, `1h 30m`.
///
/// # Errors
/// When it is no duration, or none at all.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "a duration has a unit, such as 30s, 2m or 1h".to_owned())?;
    if duration.is_zero() { Err("it leaves no time at all".to_owned()) } else { Ok(duration) }
}

/// What `--platform` narrows to: in order, without repeats.
pub fn platforms(given: &[Platform]) -> Platforms {
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in given {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    if platforms.is_empty() { Platforms::Unknown } else { Platforms::These(platforms) }
}
