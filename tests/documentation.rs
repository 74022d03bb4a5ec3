//! The documentation holds together: links lead somewhere, the commands shown are there with the flags they show, and the
//! policies shown compile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files at the root, and below `docs` and `policies`.
fn pages() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().to_path_buf()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && (folder != root() || path.ends_with("docs") || path.ends_with("policies")) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push((path, text));
            }
        }
    }
    assert!(pages.len() > 5, "the pages were not found");
    pages.sort();
    pages
}

/// The lines outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The blocks of code, each with its language on the first line: every second part between fences.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```").skip(1).step_by(2)
}

/// The calls of `bonafide` in the blocks of code, without what they are piped into and without comments.
fn calls(page: &str) -> Vec<String> {
    blocks(page)
        .map(|block| block.replace("\\\n", " "))
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let line = line.trim_start_matches("$ ");
            let call = line.split(" | ").find(|part| part.starts_with("bonafide "))?;
            Some(call.split(" #").next()?.trim().to_owned())
        })
        .collect()
}

/// What the page links to.
fn links(page: &str) -> Vec<String> {
    prose(page)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchors that the page's headings make.
fn anchors(page: &str) -> Vec<String> {
    prose(page)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for (path, text) in pages() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let leads = target.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).iter().any(|known| known == anchor)));
            if !leads {
                dead.push(format!("{}: {link}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n  {}", dead.join("\n  "));
}

#[test]
fn every_page_can_be_found_from_the_index() {
    let pages = pages();
    let listed: Vec<PathBuf> = pages
        .iter()
        .flat_map(|(path, text)| {
            links(text)
                .into_iter()
                .filter_map(move |link| path.parent()?.join(link.split('#').next()?).canonicalize().ok())
        })
        .collect();
    for (path, _) in pages.iter().filter(|(path, _)| path.starts_with(root().join("docs"))) {
        assert!(listed.contains(&path.canonicalize().unwrap()), "nothing links to {}", path.display());
    }
}

#[test]
fn the_make_targets_named_are_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for (path, text) in pages() {
        for line in blocks(&text).flat_map(str::lines) {
            let Some(target) = line.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next())
            else {
                continue;
            };
            // `make` alone, with a comment behind it, lists the targets.
            let there = target == "#" || makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(there, "{}: there is no `make {target}`", path.display());
        }
    }
}

/// Asked for help at its end, a call does nothing but be parsed; a flag that is not there is an error before that.
#[test]
fn the_calls_shown_are_understood() {
    let pages = pages();
    let calls: Vec<(&PathBuf, String)> =
        pages.iter().flat_map(|(path, text)| calls(text).into_iter().map(move |call| (path, call))).collect();
    assert!(calls.len() > 10, "the calls were not found");
    for (path, call) in calls {
        let arguments = call.strip_prefix("bonafide ").unwrap();
        let run = Command::new("sh")
            .args(["-c", &format!("exec \"$BONAFIDE\" {arguments} --help")])
            .env("BONAFIDE", env!("CARGO_BIN_EXE_bonafide"))
            .envs([("IMAGE", "example.com/image"), ("WORKFLOW", "build.yml"), ("DIGEST", "sha256:0")])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{}: `{call}` is not understood:\n{error}", path.display());
    }
}

#[test]
fn the_policies_shown_compile() {
    let mut shown = 0;
    for (path, text) in pages() {
        for policy in blocks(&text).filter_map(|block| block.strip_prefix("yaml\n")) {
            if !policy.starts_with("apiVersion: bonafide.dev/") {
                continue;
            }
            shown += 1;
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("documented-{shown}.yaml"));
            fs::write(&file, policy).unwrap();
            let run = Command::new(env!("CARGO_BIN_EXE_bonafide"))
                .args(["policy", "check"])
                .arg(&file)
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success(), "{}: a policy does not compile:\n{error}", path.display());
        }
    }
    assert!(shown > 2, "the policies were not found");
}

#[test]
fn each_builder_has_a_workflow_a_policy_and_a_command_and_the_policy_says_what_it_means() {
    let folder = root().join("docs/builders");
    let pages: Vec<(PathBuf, String)> =
        pages().into_iter().filter(|(path, _)| path.parent() == Some(&folder)).collect();
    let index = &pages.iter().find(|(path, _)| path.ends_with("README.md")).unwrap().1;
    assert_eq!(links(index).iter().filter(|link| !link.starts_with("..")).count(), pages.len() - 1);
    for (path, text) in pages.iter().filter(|(path, _)| !path.ends_with("README.md")) {
        let yaml: Vec<&str> = blocks(text).filter_map(|block| block.strip_prefix("yaml\n")).collect();
        let [workflow, policy] = yaml[..] else { panic!("{}: {} blocks", path.display(), yaml.len()) };
        assert!(!workflow.contains("bonafide.dev") && policy.starts_with("apiVersion: bonafide.dev/"));
        let _: serde_json::Value = serde_saphyr::from_str(workflow).unwrap();
        let calls = calls(text);
        assert!(
            calls.iter().any(|call| call.starts_with("bonafide verify ")),
            "{}: {calls:?}",
            path.display()
        );

        let name = path.file_stem().unwrap().to_str().unwrap();
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("builder-{name}.yaml"));
        fs::write(&file, policy).unwrap();
        let check =
            || Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["policy", "check"]).arg(&file).output();
        let run = check().unwrap();
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && !told.contains("warning"), "{}: {told}", path.display());
    }
    assert!(pages.len() > 7, "{}", pages.len());
}

#[test]
fn the_scan_sees_links_and_anchors() {
    let page = "# A title: with `code`\nsee [one](a.md#x), [two](b.md)\n```\n[not](c.md)\n# not\n```\n";
    assert_eq!(links(page), ["a.md#x", "b.md"]);
    assert_eq!(anchors(page), ["a-title-with-code"]);

    let page = "text\n```bash\nbonafide a \\\n  --b | jq    # c\n$ bonafide d # e\ncat f | bonafide g\n```\nbonafide h\n";
    assert_eq!(calls(page), ["bonafide a    --b", "bonafide d", "bonafide g"]);
}
