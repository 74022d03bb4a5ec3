//! What a webhook is put together from, as the flags say: the reviewer with its registries, credentials and trust roots.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Args, ServeError};
use crate::{
    cli::sources,
    domain::identity::TrustRootName,
    gather::{ports::Observer, reviewer::Reviewer},
    registry::{Client, ClientConfig, DockerConfig},
    server::{files, metrics::Metrics},
    trust::Roots,
};

/// The most that a trust root may be long.
const TRUST_ROOT_LIMIT: usize = 4 * 1024 * 1024;
/// The name of the one trust root that there is so far.
const SIGSTORE: &str = "sigstore";

pub(super) fn reviewer(args: &Args, metrics: &Arc<Metrics>) -> Result<Reviewer, ServeError> {
    let observer: Arc<dyn Observer> = Arc::<Metrics>::clone(metrics);
    let roots = trust_roots(args)?;
    show_age(&roots, metrics);
    let images = Client::new(ClientConfig {
        insecure_registries: args.insecure_registries.clone(),
        credentials: credentials(args)?,
        observer: Arc::clone(&observer),
        ..ClientConfig::default()
    })?;
    Ok(Reviewer::new(Arc::new(images), Arc::new(roots), observer))
}

/// Those of the file that is named, else of the one that docker uses, where there is one.
fn credentials(args: &Args) -> Result<DockerConfig, ServeError> {
    let Some(path) = args.docker_config.clone().or_else(sources::usual_docker_config) else {
        return Ok(DockerConfig::default());
    };
    let config = DockerConfig::load(&path)
        .map_err(|error| ServeError::flag("docker-config", &path.display(), &error))?;
    let helpers = config.ignored_helpers();
    if !helpers.is_empty() {
        let (file, helpers) = (path.display().to_string(), helpers.join(" "));
        tracing::warn!(
            file,
            helpers,
            "credential helpers are never run; their registries are asked without credentials"
        );
    }
    Ok(config)
}

fn trust_roots(args: &Args) -> Result<Roots, ServeError> {
    let Some(path) = &args.trust_root else {
        return Roots::public_good()
            .map_err(|error| ServeError::flag("trust-root", &"(the embedded one)", &error));
    };
    let failed = |error: &dyn fmt::Display| ServeError::flag("trust-root", &path.display(), error);
    let bytes = files::read(path, TRUST_ROOT_LIMIT).map_err(|error| failed(&error))?;
    let json = String::from_utf8(bytes).map_err(|_| failed(&"not UTF-8"))?;
    Roots::from_json(TrustRootName::default(), &json).map_err(|error| failed(&error))
}

/// The age of the trust root is of the moment of the scrape.
fn show_age(roots: &Roots, metrics: &Metrics) {
    let Some(newest) = roots.validity().newest else { return };
    metrics.before_scrape(move |metrics| {
        let age = Timestamp::now().duration_since(newest);
        metrics.set_trust_root_age(SIGSTORE, Duration::try_from(age).unwrap_or_default());
    });
}
