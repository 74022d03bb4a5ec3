//! Policies from folders that change under the webhook's feet.

use std::{fs, path::Path, sync::Arc};

use bonafide::{
    domain::policy::{InvalidPolicy, Mode, PolicyEntry, PolicyId, Scope},
    gather::ports::{Inventory as _, Unmatched},
    server::{
        metrics::Metrics,
        policies::{Compiled, PolicyFolders, Surroundings},
    },
};

use crate::support::Folder;

/// One policy per line of the file; what it is does not matter here. A bracket is what no compiler likes.
fn compile(_: &Path, text: &str) -> Result<Compiled, String> {
    if text.contains('[') {
        return Err("line 1: there is a bracket".to_owned());
    }
    let lines = text.lines().map(|name| {
        PolicyEntry::Invalid(Arc::new(InvalidPolicy {
            id: PolicyId { namespace: Some("team".to_owned()), name: name.to_owned() },
            namespaces: None,
            images: None,
            mode: Mode::Enforce,
            errors: Vec::new(),
        }))
    });
    Ok(Compiled { policies: lines.collect(), ..Compiled::default() })
}

fn open(folder: &Folder) -> PolicyFolders {
    let surroundings = Surroundings { unmatched: Unmatched::Deny, ..Surroundings::default() };
    let folders = vec![folder.path().to_owned()];
    PolicyFolders::open(folders, compile, surroundings, Metrics::new("test")).unwrap()
}

fn names(policies: &PolicyFolders) -> Vec<String> {
    let snapshot = policies.snapshot().unwrap();
    let anything = "docker.io/library/nginx".parse::<bonafide::domain::reference::Reference>().unwrap();
    let found = snapshot.policies.matching(Scope::Everywhere, anything.repository());
    found.iter().map(|entry| entry.id().name.clone()).collect()
}

#[test]
fn nothing_changes_while_nothing_changes() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    folder.write("notes.txt", "not a policy");
    folder.write(".hidden.yaml", "not one either");
    let policies = open(&folder);
    let before = policies.snapshot().unwrap();
    assert_eq!(before.unmatched, Unmatched::Deny);
    assert_eq!(names(&policies), ["one"]);
    assert!(!policies.poll());
    // Touched, and still the same.
    folder.write("a.yaml", "one");
    assert!(!policies.poll());
    assert!(Arc::ptr_eq(&before, &policies.snapshot().unwrap()));
}

#[test]
fn files_that_come_change_and_go_are_noticed() {
    let folder = Folder::new();
    fs::create_dir(folder.join("team")).unwrap();
    folder.write("a.yaml", "one");
    let policies = open(&folder);
    let mut last = policies.snapshot().unwrap().policies.generation;
    let mut expect = |want: &[&str]| {
        assert!(policies.poll(), "{want:?}");
        assert_eq!(names(&policies), want);
        let generation = policies.snapshot().unwrap().policies.generation;
        assert!(generation > last);
        last = generation;
        assert!(!policies.poll());
    };
    // As long as before, and written in the same tick of the file system's clock.
    folder.write("a.yaml", "two");
    expect(&["two"]);
    folder.write("team/b.json", "three");
    expect(&["three", "two"]);
    fs::remove_file(folder.join("a.yaml")).unwrap();
    expect(&["three"]);
}

#[test]
fn a_swap_as_kubernetes_does_it_is_noticed() {
    let folder = Folder::new();
    folder.mount("1", &[("a.yaml", "one"), ("b.yaml", "two")]);
    let policies = open(&folder);
    assert_eq!(names(&policies), ["one", "two"], "each once, not again behind ..data");
    folder.mount("2", &[("a.yaml", "one"), ("b.yaml", "three")]);
    assert!(policies.poll());
    assert_eq!(names(&policies), ["one", "three"]);
}

#[test]
fn what_cannot_be_read_fails_closed_for_everything() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let policies = open(&folder);
    for broken in ["", "  \n"] {
        folder.write("b.yaml", broken);
        policies.poll();
        let found = names(&policies);
        assert!(found.iter().any(|name| name.ends_with("b.yaml")), "{found:?}");
    }
    folder.write("b.yaml", "spec: [");
    assert!(policies.poll());
    assert!(names(&policies).iter().any(|name| name.ends_with("b.yaml")));
    fs::write(folder.join("b.yaml"), [0xff, 0xfe]).unwrap();
    assert!(policies.poll());
    assert!(names(&policies).iter().any(|name| name.ends_with("b.yaml")));
    fs::write(folder.join("b.yaml"), vec![b'x'; 2 << 20]).unwrap();
    assert!(policies.poll());
    assert!(names(&policies).iter().any(|name| name.ends_with("b.yaml")));
    folder.write("b.yaml", "two");
    assert!(policies.poll());
    assert_eq!(names(&policies), ["one", "two"], "mended");
}

#[test]
fn a_folder_that_is_gone_leaves_its_policies_in_force() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let policies = open(&folder);
    fs::rename(folder.path(), folder.path().with_extension("away")).unwrap();
    assert!(!policies.poll());
    assert_eq!(names(&policies), ["one"]);
    fs::rename(folder.path().with_extension("away"), folder.path()).unwrap();
    assert!(!policies.poll());
    folder.write("a.yaml", "two");
    assert!(policies.poll());
    assert_eq!(names(&policies), ["two"]);
}

#[test]
fn a_folder_that_was_never_there_is_an_error() {
    let folder = Folder::new();
    let missing = folder.join("missing");
    let error =
        PolicyFolders::open(vec![missing.clone()], compile, Surroundings::default(), Metrics::new("test"))
            .err()
            .unwrap();
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
}
