//! `bonafide serve`: the webhook without a cluster. It puts the parts together, tells where it listens, and ends when it is told to.

mod args;

use std::{
    fmt,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

pub use args::{Args, UnmatchedRule};
use jiff::Timestamp;
use tokio::{signal::unix, time::MissedTickBehavior};

use super::sources;
use crate::{
    api::manifest,
    domain::identity::TrustRootName,
    gather::{
        ports::{Inventory, Observer},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig, ClientError, DockerConfig},
    server::{
        admission::{Admission, Judge},
        files,
        health::{self, Readiness},
        listen::{DRAIN, ListenError, Listeners, Service},
        log,
        metrics::Metrics,
        policies::{Compiled, PolicyFolders, Surroundings},
        tls::{self, Certificate, CertificateError, CertificateFiles},
    },
    trust::Roots,
};

/// The most that a trust root may be long.
const TRUST_ROOT_LIMIT: usize = 4 * 1024 * 1024;
/// The name of the one trust root that there is so far.
const SIGSTORE: &str = "sigstore";
/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What was given with a flag cannot be used.
    #[error("--{flag} {value}: {problem}")]
    Flag {
        /// The flag, without its dashes.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate cannot be served.
    #[error("--tls-cert, --tls-key: {0}")]
    Certificate(#[from] CertificateError),
    /// Registries cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A listener cannot be had, or ended.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl ServeError {
    fn flag(flag: &'static str, value: &dyn fmt::Display, problem: &dyn fmt::Display) -> Self {
        Self::Flag { flag, value: value.to_string(), problem: problem.to_string() }
    }

    /// The code that the process ends with.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Flag { .. } | Self::Certificate(_) | Self::Listen(ListenError::Bind { .. }) => 64,
            Self::Client(_) | Self::Listen(ListenError::Tls(_) | ListenError::Ended(_)) => 1,
        }
    }
}

/// Serves until the process is told to end. `version` is the build's.
pub async fn run(args: Args, version: &str) -> ExitCode {
    let logs = match log::init(args.log_format) {
        Ok(logs) => logs,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: no log can be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    log_panics();
    let format = args.log_format;
    let served = async {
        let webhook = start(args, version).await?;
        logs.count_in(webhook.metrics());
        // Whoever reads where it listens may tell it to end at once.
        let told = told_to_end();
        announce(&webhook, format);
        webhook.run(told, DRAIN).await
    };
    match served.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // After the log lines that lead to it.
            drop(logs);
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// A webhook that is bound and ready to serve.
pub struct Webhook {
    listeners: Listeners,
    service: Service,
    metrics: Arc<Metrics>,
    policies: Arc<PolicyFolders>,
    certificate_files: Option<Arc<CertificateFiles>>,
    authority: Option<String>,
}

/// Reads what the flags name and binds the listeners.
///
/// # Errors
/// See [`ServeError`].
pub async fn start(args: Args, version: &str) -> Result<Webhook, ServeError> {
    tls::install_crypto_provider();
    let metrics = Metrics::new(version);
    let readiness = Arc::new(Readiness::default());
    let listeners = bind(&args).await?;

    let (certificate, certificate_files, authority) = certificate(&args, &metrics)?;
    readiness.certificate_loaded(Arc::clone(&certificate));
    let shown = Arc::clone(&certificate);
    metrics.before_scrape(move |metrics| {
        metrics.set_certificate_expiry(shown.not_after().map_or(0, Timestamp::as_second));
    });

    let policies = Arc::new(policies(&args, &metrics)?);
    readiness.policies_loaded();

    let reviewer = Arc::new(reviewer(&args, &metrics)?);
    readiness.trust_root_loaded();
    let counted = Arc::clone(&reviewer);
    metrics.before_scrape(move |metrics| metrics.set_cache_bytes("facts", counted.fact_bytes()));

    let judge: Arc<dyn Judge> = reviewer;
    let inventory: Arc<dyn Inventory> = Arc::<PolicyFolders>::clone(&policies);
    let admission = Admission::new(judge, inventory, Arc::clone(&metrics), args.timeout);
    let service = Service {
        admission: admission.router(),
        health: health::router(Arc::clone(&readiness), Arc::clone(&metrics)),
        readiness,
        certificate,
    };
    Ok(Webhook { listeners, service, metrics, policies, certificate_files, authority })
}

impl Webhook {
    /// Where reviews are answered.
    pub const fn address(&self) -> SocketAddr {
        self.listeners.webhook_address()
    }

    /// Where health is told.
    pub const fn health_address(&self) -> SocketAddr {
        self.listeners.health_address()
    }

    /// The authority of the certificate made at start, PEM.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// What is counted.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Serves until `shutdown` is over, then finishes what is in flight within `drain`.
    ///
    /// # Errors
    /// A listener that ended by itself.
    pub async fn run(self, shutdown: impl Future<Output = ()>, drain: Duration) -> Result<(), ServeError> {
        let looking = tokio::spawn(look(self.policies, self.certificate_files));
        let served = self.listeners.serve(self.service, shutdown, drain).await;
        looking.abort();
        Ok(served?)
    }
}

async fn bind(args: &Args) -> Result<Listeners, ServeError> {
    Listeners::bind(args.listen, args.health_listen).await.map_err(|error| match error {
        ListenError::Bind { address, error } if address == args.listen => {
            ServeError::flag("listen", &address, &error)
        }
        ListenError::Bind { address, error } => ServeError::flag("health-listen", &address, &error),
        other => ServeError::Listen(other),
    })
}

type Served = (Arc<Certificate>, Option<Arc<CertificateFiles>>, Option<String>);

fn certificate(args: &Args, metrics: &Arc<Metrics>) -> Result<Served, ServeError> {
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        let files = CertificateFiles::open(certificate, key, metrics)?;
        return Ok((files.certificate(), Some(Arc::new(files)), None));
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

fn policies(args: &Args, metrics: &Arc<Metrics>) -> Result<PolicyFolders, ServeError> {
    let surroundings =
        Surroundings { platforms: args.platforms.clone(), unmatched: args.unmatched_images.into() };
    let folders = args.policies.clone();
    PolicyFolders::open(folders, compile, surroundings, Arc::clone(metrics)).map_err(|error| {
        let given: Vec<String> = args.policies.iter().map(|path| path.display().to_string()).collect();
        ServeError::flag("policies", &given.join(" "), &error)
    })
}

/// Looks at the files for as long as the webhook serves.
async fn look(policies: Arc<PolicyFolders>, certificate: Option<Arc<CertificateFiles>>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (policies, certificate) = (Arc::clone(&policies), certificate.clone());
        let looked = tokio::task::spawn_blocking(move || {
            policies.poll();
            if let Some(certificate) = certificate {
                certificate.poll();
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(error = error.to_string(), "looking at files failed; it goes on");
        }
    }
}

/// Says where it listens, on standard output, in a form that scripts can read.
fn announce(webhook: &Webhook, format: log::Format) {
    let (address, health) = (webhook.address(), webhook.health_address());
    let mut out = io::stdout().lock();
    // Nobody may be reading; that is no reason to end.
    let _ = match format {
        log::Format::Text => writeln!(out, "webhook https://{address}/validate\nhealth http://{health}"),
        log::Format::Json => writeln!(
            out,
            "{}",
            serde_json::json!({"webhook": format!("https://{address}/validate"), "health": format!("http://{health}")})
        ),
    };
    let _ = out.flush();
    tracing::info!(webhook = address.to_string(), health = health.to_string(), "listening");
}

/// A panic is a line of the log like any other.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(place, panic = text, "panic");
    }));
}

/// Listens for SIGTERM and SIGINT from now on; the future ends with the first of them.
fn told_to_end() -> impl Future<Output = ()> {
    let mut signals =
        [unix::SignalKind::terminate(), unix::SignalKind::interrupt()].map(|kind| unix::signal(kind).ok());
    if signals.iter().any(Option::is_none) {
        tracing::error!("a signal cannot be listened for; it ends the process at once");
    }
    async move {
        let waits = signals.iter_mut().flatten().map(|signal| Box::pin(signal.recv()));
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(waits).await;
    }
}

/// The policies in a file; what is no YAML fails closed for everything.
fn compile(_: &Path, text: &str) -> Result<Compiled, String> {
    let file = manifest::read(text).map_err(|error| match error.line {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    })?;
    let policies = file.policies.into_iter().filter(|document| document.is_policy);
    Ok(Compiled {
        policies: policies.map(|document| document.compiled.entry).collect(),
        namespaces: file.namespaces,
    })
}

fn reviewer(args: &Args, metrics: &Arc<Metrics>) -> Result<Reviewer, ServeError> {
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
