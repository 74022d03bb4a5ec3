//! What a webhook is put together from, as the flags say: the reviewer with its registries, credentials and trust roots.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Args, ServeError};
use crate::{
    cli::{roots, sources},
    gather::{ports::Observer, reviewer::Reviewer},
    registry::{Client, ClientConfig, DockerConfig},
    server::metrics::Metrics,
    trust::Roots,
};

pub(super) fn reviewer(args: &Args, roots: Roots, metrics: &Arc<Metrics>) -> Result<Reviewer, ServeError> {
    let observer: Arc<dyn Observer> = Arc::<Metrics>::clone(metrics);
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

/// The built-in trust roots, and those that the flags name.
pub(super) fn trust_roots(args: &Args) -> Result<Roots, ServeError> {
    roots::load(&args.trust_roots)
        .map_err(|failure| ServeError::flag("trust-root", &failure.value, &failure.problem))
}

/// The age of a trust root is of the moment of the scrape.
fn show_age(roots: &Roots, metrics: &Metrics) {
    for (name, validity) in roots.validities() {
        let (Some(newest), name) = (validity.newest, name.0.clone()) else { continue };
        metrics.before_scrape(move |metrics| {
            let age = Timestamp::now().duration_since(newest);
            metrics.set_trust_root_age(&name, Duration::try_from(age).unwrap_or_default());
        });
    }
}
