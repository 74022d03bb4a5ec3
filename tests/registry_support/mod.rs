//! A client, and a registry with one image that fails on request.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::{Reference, Repository},
    },
    gather::ports::{Attestations, Images},
    registry::{Client, ClientConfig, DockerConfig},
};
use bonafide_kit::{
    image::{Image, Pushed},
    registry::Registry,
};

pub const REPO: &str = "team/app";

pub struct Setup {
    pub registry: Registry,
    pub client: Client,
    pub repository: Repository,
    pub image: Pushed,
    pub digest: Digest,
}

pub async fn setup() -> Setup {
    setup_with("{}").await
}

/// `HOST` in the docker config is the registry's.
pub async fn setup_with(docker_config: &str) -> Setup {
    setup_of(docker_config, |_| ()).await
}

pub async fn setup_of(docker_config: &str, change: impl FnOnce(&mut ClientConfig)) -> Setup {
    let registry = Registry::start().await;
    let image = Image::single("linux/amd64").push(&registry, REPO, "v1");
    let config = docker_config.replace("HOST", registry.host());
    let credentials = DockerConfig::from_json(&config).unwrap();
    let mut config = ClientConfig { credentials, ..ClientConfig::default() };
    change(&mut config);
    let client = Client::new(config).unwrap();
    let repository = format!("{}/{REPO}", registry.host()).parse().unwrap();
    let digest = image.digest.parse().unwrap();
    Setup { registry, client, repository, image, digest }
}

impl Setup {
    pub fn tagged(&self, tag: &str) -> Reference {
        format!("{}:{tag}", self.repository).parse().unwrap()
    }

    pub async fn manifest(&self) -> Result<Digest, FetchErrorKind> {
        self.client
            .manifest(&self.repository, &self.digest)
            .await
            .map(|m| m.digest)
            .map_err(|error| error.kind)
    }

    pub async fn referrers(&self) -> Result<Vec<String>, FetchErrorKind> {
        let listed =
            self.client.referrers(&self.repository, &self.digest).await.map_err(|error| error.kind)?;
        Ok(listed.into_iter().map(|referrer| referrer.digest.to_string()).collect())
    }

    /// What is listed, and why there may be more.
    pub async fn listed(&self) -> (Vec<String>, Vec<FetchError>) {
        let list = self.client.list_referrers(&self.repository, &self.digest).await;
        (list.referrers.into_iter().map(|referrer| referrer.digest.to_string()).collect(), list.unlisted)
    }
}
