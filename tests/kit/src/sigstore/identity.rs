//! Who a certificate says has signed: its subject alternative name and Fulcio's extensions
//! (`1.3.6.1.4.1.57264.1.N`), each of which a test may set, change, leave out or malform.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::der;
use super::keys::sha256;

/// The issuer of GitHub Actions' tokens.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// A certificate's subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// A URI: what workflows get.
    Uri(String),
    /// An address: what people get.
    Email(String),
    /// The certificate has none.
    None,
}

/// What a certificate is asked for with.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) san: San,
    /// Extension number to its value, the bytes inside the OCTET STRING.
    extensions: BTreeMap<u8, Vec<u8>>,
    pub(super) validity: Option<(Timestamp, Timestamp)>,
}

impl Identity {
    /// An identity of this name and token issuer alone.
    pub fn new(san: San, issuer: &str) -> Self {
        Self { san, extensions: BTreeMap::new(), validity: None }.issuer(issuer)
    }

    /// A person: an address that an issuer vouches for.
    pub fn email(address: &str, issuer: &str) -> Self {
        Self::new(San::Email(address.to_owned()), issuer)
    }

    /// A workflow of GitHub Actions that signs in its own repository, with the whole set of extensions
    /// that Fulcio writes today. `repository` is `owner/name`, `workflow_path` is
    /// `.github/workflows/build.yml`, `git_ref` is `refs/heads/main`, `trigger` is `push`.
    pub fn github(repository: &str, workflow_path: &str, git_ref: &str, trigger: &str) -> Self {
        let url = format!("https://github.com/{repository}");
        let owner = repository.split('/').next().unwrap_or_default();
        let workflow = format!("{url}/{workflow_path}@{git_ref}");
        let commit = commit_of(repository, git_ref);
        Self::github_legacy(repository, workflow_path, git_ref, trigger)
            .extension(8, GITHUB_ISSUER)
            .extension(9, &workflow)
            .extension(10, &commit)
            .extension(11, "github-hosted")
            .extension(12, &url)
            .extension(13, &commit)
            .extension(14, git_ref)
            .extension(15, &number_of(repository))
            .extension(16, &format!("https://github.com/{owner}"))
            .extension(17, &number_of(owner))
            .extension(18, &workflow)
            .extension(19, &commit)
            .extension(20, trigger)
            .extension(21, &format!("{url}/actions/runs/13531731005/attempts/1"))
            .extension(22, "public")
    }

    /// The same with the six legacy extensions only, as certificates were until 2023.
    pub fn github_legacy(repository: &str, workflow_path: &str, git_ref: &str, trigger: &str) -> Self {
        let workflow = format!("https://github.com/{repository}/{workflow_path}@{git_ref}");
        Self { san: San::Uri(workflow), extensions: BTreeMap::new(), validity: None }
            .extension(1, GITHUB_ISSUER)
            .extension(2, trigger)
            .extension(3, &commit_of(repository, git_ref))
            .extension(4, workflow_path)
            .extension(5, repository)
            .extension(6, git_ref)
    }

    /// A pipeline of GitLab that signs in its own project. `project` is `group/project`, `config` is `.gitlab-ci.yml`,
    /// `git_ref` is `refs/heads/main`, `source` is `push`.
    pub fn gitlab(project: &str, config: &str, git_ref: &str, source: &str) -> Self {
        let url = format!("https://gitlab.com/{project}");
        let group = project.rsplit_once('/').map_or("", |(group, _)| group);
        let file = format!("{url}//{config}@{git_ref}");
        let commit = commit_of(project, git_ref);
        Self::new(San::Uri(file.clone()), "https://gitlab.com")
            .extension(9, &file)
            .extension(10, &commit)
            .extension(11, "gitlab-hosted")
            .extension(12, &url)
            .extension(13, &commit)
            .extension(14, git_ref)
            .extension(15, &number_of(project))
            .extension(16, &format!("https://gitlab.com/{group}"))
            .extension(17, &number_of(group))
            .extension(18, &file)
            .extension(19, &commit)
            .extension(20, source)
            .extension(21, &format!("{url}/-/jobs/574"))
            .extension(22, "public")
    }

    /// A job of a Buildkite pipeline; the ref is in the subject of its token alone.
    pub fn buildkite(organization: &str, pipeline: &str, git_ref: &str, source: &str) -> Self {
        let url = format!("https://buildkite.com/{organization}/{pipeline}");
        let commit = commit_of(pipeline, git_ref);
        let subject = format!(
            "organization:{organization}:pipeline:{pipeline}:ref:{git_ref}:commit:{commit}:step:build"
        );
        Self::new(San::Uri(url.clone()), "https://agent.buildkite.com")
            .extension(11, "self-hosted")
            .extension(13, &commit)
            .extension(20, source)
            .extension(21, &format!("{url}/builds/12#0184990a-477b-4fa8-9968-496074483cee"))
            .extension(24, &subject)
    }

    /// Signed by a reusable workflow: `owner/name/.github/workflows/build.yml@refs/tags/v1.2.3`. Sets
    /// the name and, where present, the build signer's URI and digest; the source stays.
    #[must_use]
    pub fn signed_by(mut self, workflow: &str) -> Self {
        let uri = format!("https://github.com/{workflow}");
        self.san = San::Uri(uri.clone());
        if self.extensions.contains_key(&9) {
            let digest = workflow.rsplit_once('@').map_or_else(String::new, |(name, at)| {
                if at.len() == 40 && !at.contains('/') { at.to_owned() } else { commit_of(name, at) }
            });
            self = self.extension(9, &uri).extension(10, &digest);
        }
        self
    }

    /// The token's issuer, in both its extensions (1, 8).
    #[must_use]
    pub fn issuer(self, issuer: &str) -> Self {
        self.extension(1, issuer).extension(8, issuer)
    }

    /// The source's commit, wherever the identity has one (3, 13, 19).
    #[must_use]
    pub fn commit(mut self, sha: &str) -> Self {
        for number in [3, 13, 19] {
            if self.extensions.contains_key(&number) {
                self = self.extension(number, sha);
            }
        }
        self
    }

    /// Another subject alternative name.
    #[must_use]
    pub fn san(mut self, san: San) -> Self {
        self.san = san;
        self
    }

    /// An extension's value, encoded as Fulcio does: raw bytes for 1–6, a `UTF8String` from 8 on.
    #[must_use]
    pub fn extension(self, number: u8, value: &str) -> Self {
        let bytes = if number <= 6 {
            value.as_bytes().to_vec()
        } else {
            der::tlv(der::UTF8_STRING, value.as_bytes())
        };
        self.raw_extension(number, bytes)
    }

    /// An extension's value, byte for byte, whatever it is.
    #[must_use]
    pub fn raw_extension(mut self, number: u8, bytes: Vec<u8>) -> Self {
        self.extensions.insert(number, bytes);
        self
    }

    /// Without this extension.
    #[must_use]
    pub fn without_extension(mut self, number: u8) -> Self {
        self.extensions.remove(&number);
        self
    }

    /// A validity of its own; otherwise ten minutes around the signing.
    #[must_use]
    pub fn valid_between(mut self, not_before: Timestamp, not_after: Timestamp) -> Self {
        self.validity = Some((not_before, not_after));
        self
    }

    /// The text of an extension that holds one.
    pub fn value(&self, number: u8) -> Option<String> {
        let bytes = self.extensions.get(&number)?;
        let text = if number <= 6 { bytes.as_slice() } else { utf8_contents(bytes)? };
        String::from_utf8(text.to_vec()).ok()
    }

    /// The text of the subject alternative name, empty where there is none.
    pub fn subject(&self) -> &str {
        match &self.san {
            San::Uri(text) | San::Email(text) => text,
            San::None => "",
        }
    }

    /// The X.509 extensions in the order of their numbers, as DER.
    pub(super) fn encoded_extensions(&self) -> Vec<Vec<u8>> {
        self.extensions
            .iter()
            .map(|(number, value)| {
                let oid = der::oid(&format!("1.3.6.1.4.1.57264.1.{number}"));
                der::sequence(&[&oid, &der::tlv(der::OCTET_STRING, value)])
            })
            .collect()
    }
}

/// The text inside a `UTF8String` element.
fn utf8_contents(element: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = element.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let skip = if length < 0x80 { 0 } else { usize::from(length & 0x7f) };
    (tag == der::UTF8_STRING).then(|| rest.get(skip..)).flatten()
}

/// A commit that is the same for the same repository and ref.
pub(super) fn commit_of(repository: &str, git_ref: &str) -> String {
    hex::encode(&sha256(format!("{repository}@{git_ref}").as_bytes())[..20])
}

/// A number such as GitHub gives to a repository or an owner, the same for the same name.
fn number_of(name: &str) -> String {
    let hash = sha256(name.as_bytes());
    u32::from_be_bytes([hash[0] >> 3, hash[1], hash[2], hash[3]]).to_string()
}
