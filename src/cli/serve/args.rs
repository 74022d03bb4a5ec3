//! The flags of `bonafide serve`, and what their values may be.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    time::Duration,
};

use crate::{
    cli::roots::RootFile,
    cli::webhooks::WebhookArgs,
    cluster::{
        reach::ReachMode,
        webhooks::{FailurePolicy, WebhookSettings},
    },
    domain::platform::Platform,
    gather::ports::Unmatched,
    server::{callers::Cidr, deadline, log},
};

/// The flags of `serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder (or file) of policies; read again when a file changes. Can be repeated
    #[arg(long, value_name = "DIR", required_unless_present = "cluster", conflicts_with = "cluster")]
    pub policies: Vec<PathBuf>,

    /// The flags of the webhook in a cluster.
    #[command(flatten)]
    pub in_cluster: ClusterArgs,

    /// Who may call it.
    #[command(flatten)]
    pub callers: CallerArgs,

    /// Where reviews are answered, over HTTPS: POST /validate. Port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443", value_parser = address)]
    pub listen: SocketAddr,

    /// Where /livez, /readyz and /metrics are answered, over plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", value_parser = address)]
    pub health_listen: SocketAddr,

    /// Serving certificate with its chain, PEM; read again when it changes. Default: one made at start
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Where to write the authority of the certificate made at start, PEM
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tls_cert", "cluster"])]
    pub tls_ca_out: Option<PathBuf>,

    /// Platform of the nodes, such as linux/arm64. Can be repeated. Default: every platform of the image
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<Platform>,

    /// Registry that is spoken to without TLS. Loopback ones are anyway. Can be repeated
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]", value_parser = host)]
    pub insecure_registries: Vec<String>,

    /// Certificate authorities of registries and TUF mirrors, PEM, beside those that the system trusts. Can be repeated
    #[arg(long = "registry-ca", value_name = "FILE")]
    pub registry_cas: Vec<PathBuf>,

    /// Sigstore trust root (JSON) in place of the built-in public one; with a name, one more that signers may name. Can be repeated
    #[arg(long = "trust-root", value_name = "[NAME=]FILE")]
    pub trust_roots: Vec<RootFile>,

    /// The built-in trust roots are fetched from their TUF repositories, in the background and again each 6h. `TrustRoot` objects say for themselves whether they are
    #[arg(long)]
    pub tuf_refresh: bool,

    /// Folder where trust roots that are fetched are kept too, so that a restart begins with them. Default: memory alone
    #[arg(long, value_name = "DIR")]
    pub tuf_cache: Option<PathBuf>,

    /// Docker configuration with credentials for registries. Default: that of docker itself
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,

    /// What images get that no policy names
    #[arg(long, value_name = "RULE", default_value = "allow")]
    pub unmatched_images: UnmatchedRule,

    /// Form of the log on standard error
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log_format: log::Format,

    /// How long a review may take where the request does not say
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    pub timeout: Duration,
}

/// The flags of the webhook in a cluster.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "In a cluster")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ClusterArgs {
    /// Serve a cluster: policies, nodes and namespaces are those of the API server
    #[arg(long)]
    pub cluster: bool,

    /// What this replica is called in the Lease and in events. Default: the host's name
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,

    /// Pods go through /mutate: tags are pinned to the digest that was verified, and `uncoveredPlatforms: Constrain` is understood
    #[arg(long, requires = "cluster")]
    pub pinning: bool,

    /// How the serving certificate is had
    #[arg(long, value_name = "WAY", default_value = "self-managed", requires = "cluster")]
    pub certificates: CertificateSource,

    /// Who signs the serving certificate, PEM; read again when it changes. Default: another controller tells the API server
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,

    /// How long a serving certificate is valid that Bonafide makes
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = lifetime)]
    pub certificate_lifetime: Duration,

    /// How long its authority is
    #[arg(long, value_name = "DURATION", default_value = "17520h", value_parser = lifetime)]
    pub ca_lifetime: Duration,

    /// Private images are judged with the pull secrets of the pod and of its service account
    #[arg(long, requires = "cluster")]
    pub pull_secrets: bool,

    /// Keys that policies reference are read: each object that they name, and no other
    #[arg(long, requires = "cluster")]
    pub key_references: bool,

    /// Registry at a loopback or link-local address that is asked all the same; without a port, with every port. Can be repeated. Default: none
    #[arg(long = "local-registry", value_name = "HOST[:PORT]", value_parser = host, requires = "cluster")]
    pub local_registries: Vec<String>,

    /// Which workloads wait for Bonafide: those of namespaces with a policy; in addition only those with images that a policy can name; or everything
    #[arg(long, value_name = "WHICH", default_value = "namespaces", requires = "cluster")]
    pub reach: ReachMode,

    /// What the webhook configurations depend on.
    #[command(flatten)]
    pub webhook: WebhookArgs,

    /// How long requests are still answered after the process was told to end: others take time to learn of it. Default: 5s with --cluster
    #[arg(long, value_name = "DURATION", value_parser = pause)]
    pub shutdown_delay: Option<Duration>,
}

/// The flags that say who may call the webhook.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Who may call")]
pub struct CallerArgs {
    /// Addresses that reviews may come from. Can be repeated. Default: any
    #[arg(long = "caller-cidr", value_name = "CIDR")]
    pub caller_cidrs: Vec<Cidr>,

    /// Reviews need a client certificate of these authorities, PEM; read again when the file changes
    #[arg(long, value_name = "FILE")]
    pub caller_ca: Option<PathBuf>,

    /// Reviews need a token that the API server issued for this webhook (KEP-6060)
    #[arg(long, requires = "cluster")]
    pub require_caller_token: bool,

    /// Subject whose tokens count although they are bound to no webhook configuration. Can be repeated
    #[arg(long = "caller-token-subject", value_name = "SUBJECT", requires = "require_caller_token")]
    pub caller_token_subjects: Vec<String>,
}

/// Where the serving certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CertificateSource {
    /// Bonafide makes and renews it, in a Secret.
    SelfManaged,
    /// It is in the files of --tls-cert and --tls-key.
    Files,
}

impl ClusterArgs {
    /// What the webhook configurations depend on.
    pub fn webhooks(&self) -> WebhookSettings {
        let mut settings = self.webhook.settings(self.pinning, None);
        // Every pod would wait to be bound otherwise, whatever its images are. The pod's own review has judged every platform.
        if self.reach == ReachMode::Images {
            settings.binding_failure_policy.get_or_insert(FailurePolicy::Ignore);
        }
        settings
    }

    /// What this replica is called.
    pub fn identity(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = self.identity.clone().or_else(host).unwrap_or_default();
        // Two replicas never share a name, wherever they run.
        if name.trim().is_empty() {
            format!("bonafide-{}", std::process::id())
        } else {
            name.trim().to_owned()
        }
    }
}

/// The values of `--unmatched-images`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnmatchedRule {
    /// Admitted.
    Allow,
    /// Admitted with a warning.
    Warn,
    /// Denied.
    Deny,
}

impl From<UnmatchedRule> for Unmatched {
    fn from(rule: UnmatchedRule) -> Self {
        match rule {
            UnmatchedRule::Allow => Self::Allow,
            UnmatchedRule::Warn => Self::Warn,
            UnmatchedRule::Deny => Self::Deny,
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|_| "not HOST:PORT, such as 127.0.0.1:8443".to_owned())?;
    found.next().ok_or_else(|| "the host has no address".to_owned())
}

fn host(text: &str) -> Result<String, String> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'));
    if text.is_empty() || text.contains(odd) {
        return Err("not HOST[:PORT], such as registry.example:5000".to_owned());
    }
    Ok(text.to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    deadline::go_duration(text).ok_or_else(|| "not a duration, such as 2160h".to_owned())
}

fn pause(text: &str) -> Result<Duration, String> {
    let pause = deadline::go_duration(text).ok_or("not a duration, such as 5s")?;
    if pause > deadline::LONGEST {
        return Err(format!("must be at most {}s", deadline::LONGEST.as_secs()));
    }
    Ok(pause)
}

fn timeout(text: &str) -> Result<Duration, String> {
    let granted = deadline::go_duration(text).ok_or("not a duration, such as 10s or 1m30s")?;
    if granted.is_zero() || granted > deadline::LONGEST {
        return Err(format!("must be above 0 and at most {}s", deadline::LONGEST.as_secs()));
    }
    Ok(granted)
}
