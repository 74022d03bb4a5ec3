//! Where the binaries of the control plane are, and whether tests run without them.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

/// What `tests/plane/build` makes, in the version that it makes.
const VERSION: &str = include_str!("../../../plane/version");
/// What a control plane and its clients need.
const NAMES: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm"];

/// The binaries, each found.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
    found: BTreeMap<&'static str, PathBuf>,
}

/// What becomes of the tests that need a control plane.
#[derive(Debug)]
pub enum Availability {
    /// They run on it.
    Run(Tools),
    /// They are skipped, for this reason.
    Skip(String),
    /// They fail, for this reason.
    Fail(String),
}

impl Tools {
    /// Looks for the binaries as the environment says: `BONAFIDE_PLANE` (`off`, `require`), and the folders that
    /// `tests/plane/build` knows.
    pub fn find() -> Availability {
        decide(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// One of the binaries.
    pub fn path(&self, name: &str) -> &Path {
        self.found.get(name).unwrap_or_else(|| panic!("{name} is none of {NAMES:?}"))
    }

    /// One that not every test needs, such as `cosign`; `None` where it was not built.
    pub fn optional(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.join(name)).filter(|path| path.is_file())
    }

    /// What `tests/plane/previous` makes of this commit: a folder with the binary and the chart; `None` where it was not built.
    pub fn previous(&self, commit: &str) -> Option<PathBuf> {
        let folder = self.folder.with_file_name(format!("previous-{}", commit.get(..12)?));
        Some(folder).filter(|folder| folder.join("bonafide").is_file())
    }
}

fn decide(variable: impl Fn(&str) -> Option<String>) -> Availability {
    let wish = variable("BONAFIDE_PLANE");
    match wish.as_deref() {
        None | Some("require") => {}
        Some("off") => return Availability::Skip("BONAFIDE_PLANE is off".to_owned()),
        Some(other) => {
            return Availability::Fail(format!("BONAFIDE_PLANE={other} is neither `off` nor `require`"));
        }
    }
    let (folder, assets) = folders(&variable);
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for name in NAMES {
        let places = assets.iter().chain([&folder]).map(|place| place.join(name));
        match places.into_iter().find(|path| path.is_file()) {
            Some(path) => drop(found.insert(name, path)),
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Availability::Run(Tools { folder, found });
    }
    let problem = format!("{} not in {}; tests/plane/build makes them", missing.join(", "), folder.display());
    if wish.is_some() { Availability::Fail(problem) } else { Availability::Skip(problem) }
}

/// The cache, and the folder whose binaries are taken in place of those in it.
fn folders(variable: &impl Fn(&str) -> Option<String>) -> (PathBuf, Option<PathBuf>) {
    let cache = || match variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(variable("HOME").unwrap_or_default()).join(".cache"),
    };
    let tools = variable("BONAFIDE_TOOLS").map_or_else(|| cache().join("bonafide-tools"), PathBuf::from);
    (tools.join(format!("plane-{}", VERSION.trim())), variable("KUBEBUILDER_ASSETS").map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(variables: &[(&str, &Path)]) -> Availability {
        decide(|name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(value.display().to_string())
        })
    }

    fn folder(name: &str, tools: &[&str]) -> PathBuf {
        let root = env::temp_dir().join(format!("bonafide-tools-{}-{name}", std::process::id()));
        let folder = root.join(format!("plane-{}", VERSION.trim()));
        std::fs::create_dir_all(&folder).unwrap();
        for tool in tools {
            std::fs::write(folder.join(tool), "").unwrap();
        }
        root
    }

    #[test]
    fn what_is_missing_skips_unless_it_is_required() {
        let (whole, lacking) = (folder("whole", &NAMES), folder("lacking", &NAMES[1..]));
        let require = Path::new("require");
        assert!(matches!(at(&[("BONAFIDE_TOOLS", &whole)]), Availability::Run(_)));
        assert!(matches!(
            at(&[("BONAFIDE_TOOLS", &whole), ("BONAFIDE_PLANE", require)]),
            Availability::Run(_)
        ));
        let Availability::Skip(why) = at(&[("BONAFIDE_TOOLS", &lacking)]) else { panic!() };
        assert!(why.starts_with("etcd not in ") && why.contains("tests/plane/build"), "{why}");
        let required = at(&[("BONAFIDE_TOOLS", &lacking), ("BONAFIDE_PLANE", require)]);
        assert!(matches!(required, Availability::Fail(_)), "{required:?}");

        let off = at(&[("BONAFIDE_TOOLS", &whole), ("BONAFIDE_PLANE", Path::new("off"))]);
        assert!(matches!(off, Availability::Skip(_)), "{off:?}");
        let odd = at(&[("BONAFIDE_TOOLS", &whole), ("BONAFIDE_PLANE", Path::new("on"))]);
        assert!(matches!(odd, Availability::Fail(_)), "{odd:?}");

        let assets = folder("assets", &NAMES[..1]);
        let plane = assets.join(format!("plane-{}", VERSION.trim()));
        let Availability::Run(tools) = at(&[("BONAFIDE_TOOLS", &lacking), ("KUBEBUILDER_ASSETS", &plane)])
        else {
            panic!()
        };
        assert_eq!(tools.path("etcd"), plane.join("etcd"));
        assert_eq!(tools.path("helm"), lacking.join(format!("plane-{}/helm", VERSION.trim())));
        assert_eq!(tools.optional("cosign"), None);
        for root in [whole, lacking, assets] {
            std::fs::remove_dir_all(root).unwrap();
        }
    }
}
