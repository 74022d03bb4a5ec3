//! What a webhook is put together from, as the flags say: the reviewer with its registries, credentials and trust roots.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{Args, CallerArgs, ServeError, args::CertificateSource};
use crate::{
    cli::{roots, sources},
    gather::{
        ports::{Keychain, Observer},
        reviewer::{Pulling, Reviewer},
    },
    registry::{Authorities, Client, ClientConfig, DockerConfig, SecretAgents},
    server::{
        callers::ClientAuthorities,
        files,
        metrics::Metrics,
        tls::{self, Certificate, CertificateFiles},
    },
    trust::{
        Keeper,
        tuf::{self, Fetcher},
    },
};

/// What is served with, the files it is read from, and the authority of one that was made now (PEM).
pub(super) type Served = (Arc<Certificate>, Option<Arc<CertificateFiles>>, Option<String>);

/// What is served with: a certificate of files, one that is handed over later, or one made now.
pub(super) fn certificate(args: &Args, metrics: &Arc<Metrics>) -> Result<Served, ServeError> {
    let in_cluster = args.in_cluster.cluster.then_some(args.in_cluster.certificates);
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        if in_cluster == Some(CertificateSource::SelfManaged) {
            let problem = "is read with --certificates files alone";
            return Err(ServeError::flag("tls-cert", &certificate.display(), &problem));
        }
        let files = CertificateFiles::open(certificate, key, metrics)?;
        return Ok((files.certificate(), Some(Arc::new(files)), None));
    }
    match in_cluster {
        Some(CertificateSource::SelfManaged) => return Ok((Certificate::pending(), None, None)),
        Some(CertificateSource::Files) => {
            return Err(ServeError::flag("certificates", &"files", &"needs --tls-cert and --tls-key"));
        }
        None => {}
    }
    let (certificate, authority) = tls::self_made(args.listen.ip())?;
    if let Some(path) = &args.tls_ca_out {
        files::write_whole(path, authority.as_bytes())
            .map_err(|error| ServeError::flag("tls-ca-out", &path.display(), &error))?;
    } else {
        tracing::warn!("the certificate is made at start, and without --tls-ca-out no client can check it");
    }
    Ok((certificate, None, Some(authority)))
}

/// Who signs the client certificates of API servers, where these are required.
pub(super) fn clients(args: &CallerArgs) -> Result<Option<Arc<ClientAuthorities>>, ServeError> {
    let Some(path) = &args.caller_ca else { return Ok(None) };
    let opened = ClientAuthorities::open(path);
    opened.map(Some).map_err(|problem| ServeError::flag("caller-ca", &path.display(), &problem))
}

fn authorities(args: &Args) -> Result<Authorities, ServeError> {
    sources::authorities(&args.registry_cas)
        .map_err(|(path, problem)| ServeError::flag("registry-ca", &path.display(), &problem))
}

/// The reviewer. With a keychain private images are judged with the workload's own credentials.
pub(super) fn reviewer(
    args: &Args,
    roots: Arc<Keeper>,
    metrics: &Arc<Metrics>,
    keychain: Option<Arc<dyn Keychain>>,
) -> Result<Reviewer, ServeError> {
    let observer: Arc<dyn Observer> = Arc::<Metrics>::clone(metrics);
    show_age(&roots, metrics);
    let images = Arc::new(Client::new(ClientConfig {
        insecure_registries: args.insecure_registries.clone(),
        local_registries: args.in_cluster.cluster.then(|| args.in_cluster.local_registries.clone()),
        credentials: credentials(args)?,
        authorities: authorities(args)?,
        observer: Arc::clone(&observer),
        ..ClientConfig::default()
    })?);
    let reviewer = Reviewer::new(Arc::<Client>::clone(&images), roots, observer);
    Ok(match keychain {
        Some(keychain) => reviewer.pulling(Pulling { keychain, agents: Arc::new(SecretAgents::new(images)) }),
        None => reviewer,
    })
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
pub(super) fn trust_roots(args: &Args) -> Result<Arc<Keeper>, ServeError> {
    let roots = roots::load(&args.trust_roots)
        .map_err(|failure| ServeError::flag("trust-root", &failure.value, &failure.problem))?;
    let keeper = Arc::new(Keeper::new(roots));
    if args.tuf_refresh {
        for (name, source) in tuf::built_in() {
            // A root of a file is what the file says.
            if !args.trust_roots.iter().any(|file| file.is_named(&name)) {
                keeper.follow(name, source);
            }
        }
    }
    Ok(keeper)
}

/// Fetches the trust roots that are to be fetched, for as long as the webhook serves.
pub(super) fn fetching(args: &Args, keeper: &Arc<Keeper>) -> Result<JoinHandle<()>, ServeError> {
    let fetcher = Fetcher::new(args.tuf_cache.clone(), authorities(args)?.into_certificates())
        .map_err(|error| ServeError::flag("tuf-refresh", &args.tuf_refresh, &error))?;
    Ok(tokio::spawn(tuf::run(Arc::clone(keeper), Arc::new(fetcher))))
}

/// The age of a trust root is of the moment of the scrape.
fn show_age(roots: &Arc<Keeper>, metrics: &Metrics) {
    let roots = Arc::clone(roots);
    metrics.before_scrape(move |metrics| {
        let age = |since| Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
        metrics
            .set_trust_root_ages(roots.current_since().into_iter().map(|(name, since)| (name.0, age(since))));
    });
}
