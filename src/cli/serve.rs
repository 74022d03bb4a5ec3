//! `bonafide serve`: the webhook without a cluster. It puts the parts together, tells where it listens, and ends when it is told to.

mod args;
mod cluster;
mod parts;
mod vital;

use std::{
    fmt,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

pub use args::{Args, CallerArgs, ClusterArgs, UnmatchedRule};
use cluster::Cluster;
use jiff::Timestamp;
use tokio::{signal::unix, task::JoinHandle, time::MissedTickBehavior};
use vital::Vital;

use crate::{
    api::manifest,
    cluster::callers::ApiServerTokens,
    gather::ports::{Inventory, Keychain},
    registry::ClientError,
    server::{
        admission::{Admission, InCluster, Judge},
        callers::{Callers, ClientAuthorities},
        health::{self, Readiness},
        listen::{DRAIN, ListenError, Listeners, Service},
        log,
        metrics::Metrics,
        policies::{Compiled, PolicyFolders, Surroundings},
        tls::{self, CertificateError, CertificateFiles},
    },
    trust::Keeper,
};

/// How long a cluster takes to learn that a pod is on its way out.
const CLUSTER_DELAY: Duration = Duration::from_secs(5);
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
    /// There is no cluster to serve.
    #[error("--cluster: {0}")]
    Cluster(#[from] crate::cluster::client::ClientError),
    /// Registries cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What the webhook is nothing without has ended.
    #[error("{0} ended, which is a fault of bonafide; the log says more")]
    Lost(&'static str),
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
            Self::Client(_)
            | Self::Cluster(_)
            | Self::Lost(_)
            | Self::Listen(ListenError::Tls(_) | ListenError::Ended(_)) => 1,
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

/// Where policies, nodes and namespaces come from.
enum Source {
    Folders(Arc<PolicyFolders>),
    Cluster(Box<Cluster>),
}

impl Source {
    fn keychain(&self) -> Option<Arc<dyn Keychain>> {
        match self {
            Self::Folders(_) => None,
            Self::Cluster(cluster) => cluster.keychain(),
        }
    }

    /// Who verifies the tokens of callers, where these are required.
    fn tokens(&self, args: &Args) -> Option<Arc<ApiServerTokens>> {
        match self {
            Self::Folders(_) => None,
            Self::Cluster(cluster) => cluster.tokens(args),
        }
    }

    fn ports(&self) -> (Arc<dyn Inventory>, Option<InCluster>) {
        match self {
            Self::Folders(folders) => (Arc::<PolicyFolders>::clone(folders), None),
            Self::Cluster(cluster) => (cluster.inventory(), Some(cluster.ports())),
        }
    }
}

/// A webhook that is bound and ready to serve.
pub struct Webhook {
    listeners: Listeners,
    service: Service,
    metrics: Arc<Metrics>,
    source: Source,
    fetching: JoinHandle<()>,
    shutdown_delay: Duration,
    certificate_files: Option<Arc<CertificateFiles>>,
    clients: Option<Arc<ClientAuthorities>>,
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
    let clients = parts::clients(&args.callers)?;
    let listeners = bind(&args).await?.with_clients(clients.clone());

    let (certificate, certificate_files, authority) = parts::certificate(&args, &metrics)?;
    readiness.certificate_loaded(Arc::clone(&certificate));
    let shown = Arc::clone(&certificate);
    metrics.before_scrape(move |metrics| {
        metrics.set_certificate_expiry(shown.not_after().map_or(0, Timestamp::as_second));
    });

    let roots = parts::trust_roots(&args)?;
    let mut source = if args.in_cluster.cluster {
        Source::Cluster(Box::new(Cluster::start(&args, &metrics, &readiness, &certificate, &roots).await?))
    } else {
        let policies = Arc::new(policies(&args, &roots, &metrics)?);
        readiness.policies_loaded();
        Source::Folders(policies)
    };

    let fetching = parts::fetching(&args, &roots)?;
    let reviewer = Arc::new(parts::reviewer(&args, roots, &metrics, source.keychain())?);
    readiness.trust_root_loaded();
    let counted = Arc::clone(&reviewer);
    metrics.before_scrape(move |metrics| {
        for (cache, bytes) in counted.cache_bytes() {
            metrics.set_cache_bytes(cache, bytes);
        }
    });

    if let Source::Cluster(cluster) = &mut source {
        cluster.warm(Arc::clone(&reviewer), args.timeout);
    }
    let judge: Arc<dyn Judge> = reviewer;
    let (inventory, in_cluster) = source.ports();
    let (counted, drained) = (Arc::clone(&metrics), Arc::clone(&readiness));
    let callers = Callers::new(args.callers.caller_cidrs.clone(), clients.clone(), source.tokens(&args));
    let admission =
        Admission::called_by(callers, judge, inventory, counted, drained, in_cluster, args.timeout);
    let service = Service {
        validate: Some(Arc::clone(&admission)),
        admission: admission.router(),
        health: health::router(Arc::clone(&readiness), Arc::clone(&metrics)),
        readiness,
        certificate,
        metrics: Arc::clone(&metrics),
    };
    let default_delay = if args.in_cluster.cluster { CLUSTER_DELAY } else { Duration::ZERO };
    let shutdown_delay = args.in_cluster.shutdown_delay.unwrap_or(default_delay);
    Ok(Webhook {
        listeners,
        service,
        metrics,
        source,
        fetching,
        shutdown_delay,
        certificate_files,
        clients,
        authority,
    })
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
        let readiness = Arc::clone(&self.service.readiness);
        let delay = self.shutdown_delay;
        let vital = match &self.source {
            Source::Folders(_) => Vital::new(),
            Source::Cluster(cluster) => cluster.vital(),
        };
        let mut lost = None;
        let serving = async {
            tokio::select! {
                () = shutdown => {}
                name = vital.lost() => {
                    tracing::error!(task = name, "a task ended that nothing goes without; ending, to be started anew");
                    lost = Some(name);
                }
            }
            // Whoever asks readiness sends others elsewhere, and goes on sending them here until it has told everybody.
            readiness.drain();
            let told = async {
                if let Source::Cluster(cluster) = &self.source {
                    cluster.told_to_end().await;
                }
            };
            tokio::join!(tokio::time::sleep(delay), told);
        };
        let folders = match &self.source {
            Source::Folders(folders) => Some(Arc::clone(folders)),
            Source::Cluster(_) => None,
        };
        let looking = tokio::spawn(look(folders, self.certificate_files, self.clients));
        let served = self.listeners.serve(self.service, serving, drain).await;
        looking.abort();
        self.fetching.abort();
        if let Source::Cluster(cluster) = self.source {
            cluster.leave().await;
        }
        served?;
        lost.map_or(Ok(()), |name| Err(ServeError::Lost(name)))
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

fn policies(args: &Args, roots: &Arc<Keeper>, metrics: &Arc<Metrics>) -> Result<PolicyFolders, ServeError> {
    let surroundings = Surroundings {
        platforms: args.platforms.clone(),
        unmatched: args.unmatched_images.into(),
        trust_roots: Some(Arc::<Keeper>::clone(roots)),
    };
    let folders = args.policies.clone();
    PolicyFolders::open(folders, compile, surroundings, Arc::clone(metrics)).map_err(|error| {
        let given: Vec<String> = args.policies.iter().map(|path| path.display().to_string()).collect();
        ServeError::flag("policies", &given.join(" "), &error)
    })
}

/// Looks at the files for as long as the webhook serves.
async fn look(
    policies: Option<Arc<PolicyFolders>>,
    certificate: Option<Arc<CertificateFiles>>,
    clients: Option<Arc<ClientAuthorities>>,
) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (policies, certificate, clients) = (policies.clone(), certificate.clone(), clients.clone());
        let looked = tokio::task::spawn_blocking(move || {
            if let Some(policies) = policies {
                policies.poll();
            }
            if let Some(certificate) = certificate {
                certificate.poll();
            }
            if let Some(clients) = clients {
                clients.poll();
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
    Ok(Compiled {
        policies: file.policies.into_iter().map(|document| document.compiled.entry).collect(),
        namespaces: file.namespaces,
        trust_roots: file.roots.into_iter().map(|document| document.object).collect(),
    })
}
