//! Which roots are in force when objects come and go, and roots are fetched.

use bonafide_kit::sigstore::Sigstore;
use serde_json::json;

use super::*;

fn name(text: &str) -> TrustRootName {
    TrustRootName(text.to_owned())
}

fn object(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": name}, "spec": spec})
}

fn inline(name: &str, sigstore: &Sigstore) -> Value {
    object(name, &json!({"trustedRoot": sigstore.trusted_root_json()}))
}

fn keeper() -> Keeper {
    Keeper::new(Roots::embedded().unwrap())
}

fn in_force(keeper: &Keeper) -> Vec<String> {
    keeper.current.load().roots.validities().map(|(name, _)| name.to_string()).collect()
}

fn report(keeper: &Keeper, root: &str) -> (bool, &'static str, String) {
    let RootReport { ready, reason, message } = keeper.report(&name(root), Timestamp::now()).unwrap();
    (ready, reason, message)
}

#[test]
fn an_object_is_a_root_until_it_is_gone() {
    let keeper = keeper();
    assert_eq!(in_force(&keeper), ["sigstore", "github"]);
    let begun = keeper.generation();
    keeper.keep(&[inline("corp", &Sigstore::new())]);
    assert_eq!(in_force(&keeper), ["sigstore", "github", "corp"]);
    assert_eq!(report(&keeper, "corp"), (true, "InForce", "the trust root is in force".to_owned()));
    let with = keeper.generation();
    keeper.keep(&[]);
    assert_eq!((in_force(&keeper).len(), keeper.report(&name("corp"), Timestamp::now())), (2, None));
    // What was learnt by the same roots before is not used again: meanwhile something else may have been put beside it.
    let generations = [begun, with, keeper.generation()];
    assert!(
        generations.iter().enumerate().all(|(at, one)| !generations[..at].contains(one)),
        "{generations:?}"
    );
}

#[test]
fn what_changes_nothing_leaves_what_was_learnt() {
    let keeper = keeper();
    let corp = inline("corp", &Sigstore::new());
    keeper.keep(std::slice::from_ref(&corp));
    let before = keeper.generation();
    keeper.keep(std::slice::from_ref(&corp));
    keeper.keep(&[corp, object("other", &json!({}))]);
    assert_eq!(keeper.generation(), before);
}

#[test]
fn an_object_that_is_wrong_takes_its_root_away_and_no_other() {
    let keeper = keeper();
    let (corp, lab) = (inline("corp", &Sigstore::new()), inline("lab", &Sigstore::new()));
    keeper.keep(&[corp, lab.clone()]);
    keeper.keep(&[object("corp", &json!({"trustedRoot": "{}"})), lab]);
    assert_eq!(in_force(&keeper), ["sigstore", "github", "lab"]);
    let (ready, reason, message) = report(&keeper, "corp");
    assert_eq!((ready, reason), (false, "Invalid"));
    assert!(
        message.starts_with("signers that name it are never satisfied: spec.trustedRoot: cannot be used"),
        "{message}"
    );
    let lack = RootKeeper::known(&keeper).lack(&name("corp")).unwrap();
    assert!(lack.starts_with("the trust root corp is not in force: spec.trustedRoot"), "{lack}");
}

#[test]
fn no_object_replaces_what_is_built_in_or_given() {
    let given = Roots::embedded().unwrap().with(name("corp"), &Sigstore::new().trusted_root_json()).unwrap();
    let keeper = Keeper::new(given);
    let before = keeper.generation();
    let other = Sigstore::new();
    keeper.keep(&[inline("corp", &other), inline("sigstore", &other), inline("github", &other)]);
    assert_eq!((keeper.generation(), in_force(&keeper).len()), (before, 3));
    for taken in ["corp", "sigstore", "github"] {
        assert_eq!(report(&keeper, taken), (false, "Invalid", TAKEN.to_owned()));
    }
}

#[test]
fn of_two_objects_of_one_name_neither_counts() {
    let keeper = keeper();
    keeper.keep(&[inline("corp", &Sigstore::new()), inline("corp", &Sigstore::new())]);
    assert_eq!(in_force(&keeper), ["sigstore", "github"]);
    assert!(report(&keeper, "corp").2.contains("two objects of this name"));
}

fn fetched(mirror: &str) -> Value {
    object("corp", &json!({"tuf": {"mirror": mirror, "root": include_str!("../tuf/sigstore.root.json")}}))
}

#[test]
fn the_last_good_root_that_was_fetched_stays() {
    let keeper = keeper();
    keeper.keep(&[fetched("https://tuf.example")]);
    let [corp] = keeper.followed().try_into().unwrap();
    assert_eq!(report(&keeper, "corp").1, "NotFetched");
    assert!(report(&keeper, "corp").2.ends_with("it is not yet fetched from https://tuf.example/"));
    keeper.not_fetched(&corp, "no route".to_owned());
    assert!(
        report(&keeper, "corp").2.ends_with("it could not be fetched from https://tuf.example/: no route")
    );
    let (first, now) = (Sigstore::new().trusted_root_json(), Timestamp::now());
    assert!(keeper.fetched(&corp, &first, now).unwrap());
    assert_eq!(in_force(&keeper), ["sigstore", "github", "corp"]);
    let generation = keeper.generation();
    // The same again, nothing at all, and what is no root.
    assert!(!keeper.fetched(&corp, &first, now).unwrap());
    keeper.not_fetched(&corp, "no route".to_owned());
    assert!(keeper.fetched(&corp, "{}", now).is_err());
    assert_eq!(keeper.generation(), generation);
    let (ready, _, message) = report(&keeper, "corp");
    assert!(
        ready && message.contains(&format!("fetched at {now}")) && message.ends_with("no route"),
        "{message}"
    );
    assert!(keeper.current_since().contains(&(name("corp"), now)));
    assert!(keeper.fetched(&corp, &Sigstore::new().trusted_root_json(), now).unwrap());
    assert_ne!(keeper.generation(), generation);
}

#[test]
fn what_is_fetched_for_an_object_that_was_changed_is_not_used() {
    let keeper = keeper();
    keeper.keep(&[fetched("https://a.example")]);
    let [before] = keeper.followed().try_into().unwrap();
    keeper.keep(&[fetched("https://b.example")]);
    assert!(!keeper.fetched(&before, &Sigstore::new().trusted_root_json(), Timestamp::now()).unwrap());
    assert_eq!(in_force(&keeper), ["sigstore", "github"]);
}

#[test]
fn a_built_in_root_that_is_followed_is_there_before_it_is_fetched() {
    let keeper = keeper();
    let source = TufSource {
        mirror: "https://tuf.example/".parse().unwrap(),
        root: String::new(),
        target: String::new(),
    };
    keeper.follow(TrustRootName::default(), source.clone());
    keeper.not_fetched(&(TrustRootName::default(), source.clone()), "no route".to_owned());
    assert_eq!(in_force(&keeper), ["sigstore", "github"]);
    let before = keeper.generation();
    let newer = Sigstore::new().trusted_root_json();
    assert!(keeper.fetched(&(TrustRootName::default(), source), &newer, Timestamp::now()).unwrap());
    assert_eq!(in_force(&keeper), ["sigstore", "github"]);
    assert_ne!(keeper.generation(), before);
}

#[test]
fn what_is_no_provenance_is_kept_only_by_whoever_wants_it() {
    let statement = br#"{"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "https://spdx.dev/Document",
        "predicate": {"large": 1}}"#;
    let read = |keeper: Keeper| keeper.read_statement(statement).unwrap();
    let forgets = read(Keeper::new(Roots::embedded().unwrap()));
    assert_eq!((forgets.predicate_type.as_str(), forgets.other), ("https://spdx.dev/Document", None));
    let keeps = read(Keeper::new(Roots::embedded().unwrap()).keeping_other_predicates());
    assert_eq!(keeps.other.unwrap().read().unwrap()["large"], 1);
}

/// Whoever keeps a root hears in time that a part of it ends, and which. What has long ended beside another is not told.
#[test]
fn a11_what_ends_soon_is_told() {
    use bonafide_kit::sigstore::AuthorityCertificate;
    use jiff::SignedDuration;
    let now: Timestamp = "2030-06-01T00:00:00Z".parse().unwrap();
    let days = |count: i64| now + SignedDuration::from_hours(24 * count);
    let told = |change: &dyn Fn(&mut serde_json::Value), certificate, until| {
        let builder = Sigstore::builder().valid_between(days(-4000), days(4000));
        let sigstore = builder.certificate_valid_between(certificate, days(-4000), until).build();
        let mut root = sigstore.trusted_root();
        for part in ["tlogs", "ctlogs"] {
            for log in root[part].as_array_mut().unwrap() {
                log["publicKey"]["validFor"].as_object_mut().unwrap().remove("end");
            }
        }
        change(&mut root);
        let object = json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"},
            "spec": {"trustedRoot": root.to_string()},
        });
        let mut compiled = object::compile(&object);
        compiled.warn_of_ends(now);
        let keeper = Keeper::new(Roots::public_good().unwrap());
        keeper.keep(&[object]);
        let report = keeper.report(&name("corp"), now).unwrap();
        let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        assert!(compiled.errors.is_empty() && report.ready);
        let expected: Vec<String> =
            compiled.warnings.iter().map(|note| format!("; {}", note.message)).collect();
        assert_eq!(report.message, format!("the trust root is in force{}", expected.concat()));
        warnings.join("\n")
    };
    let nothing = |_: &mut serde_json::Value| {};
    assert_eq!(told(&nothing, AuthorityCertificate::Intermediate, days(31)), "");
    let window = |part: &'static str, pointer: &'static str, days: Timestamp| {
        move |root: &mut serde_json::Value| {
            root[part][0].pointer_mut(pointer).unwrap()["end"] = json!(days.to_string());
        }
    };
    let ends = [
        told(&nothing, AuthorityCertificate::Intermediate, days(30)),
        told(&nothing, AuthorityCertificate::Root, days(1)),
        told(&nothing, AuthorityCertificate::Root, days(-1)),
        told(&nothing, AuthorityCertificate::TimestampRoot, days(7)),
        told(&window("certificateAuthorities", "/validFor", days(3)), AuthorityCertificate::Root, days(7)),
        told(&window("tlogs", "/publicKey/validFor", days(3)), AuthorityCertificate::Root, days(4000)),
        told(&window("ctlogs", "/publicKey/validFor", days(-3)), AuthorityCertificate::Root, days(4000)),
    ];
    insta::assert_snapshot!(ends.join("\n"));
    let retired = window("tlogs", "/publicKey/validFor", days(-3));
    assert_eq!(told(&retired, AuthorityCertificate::Root, days(4000)), "");
}
