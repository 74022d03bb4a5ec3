//! What somebody changes, and what comes of it.

use super::*;

/// The entries that review workloads first: their order says nothing.
fn reviewing_first(webhooks: &mut Value) {
    webhooks
        .as_array_mut()
        .unwrap()
        .sort_by_key(|webhook| crate::cluster::webhooks::is_harmless(webhook["name"].as_str().unwrap()));
}

/// What somebody does to the list of webhooks.
type Change = Box<dyn Fn(&mut Value)>;

#[tokio::test(start_paused = true)]
async fn whatever_somebody_changes_is_put_right() {
    let changes: Vec<(&str, Change)> = vec![
        ("all removed", Box::new(|all| *all = json!([]))),
        ("no list", Box::new(|all| *all = Value::Null)),
        ("one removed", Box::new(|all| drop(all.as_array_mut().unwrap().remove(0)))),
        ("opened", Box::new(|all| all[0]["failurePolicy"] = json!("Ignore"))),
        ("another authority", Box::new(|all| all[0]["clientConfig"]["caBundle"] = shown("two"))),
        (
            "no authority",
            Box::new(|all| drop(all[0]["clientConfig"].as_object_mut().unwrap().remove("caBundle"))),
        ),
        ("another service", Box::new(|all| all[0]["clientConfig"]["service"]["name"] = json!("evil"))),
        ("fewer rules", Box::new(|all| drop(all[0]["rules"].as_array_mut().unwrap().pop()))),
        (
            "a condition more",
            Box::new(|all| {
                let conditions =
                    all[0].as_object_mut().unwrap().entry("matchConditions").or_insert(json!([]));
                conditions.as_array_mut().unwrap().push(json!({"name": "never", "expression": "false"}));
            }),
        ),
        ("a label more", Box::new(|all| all[0]["namespaceSelector"]["matchLabels"] = json!({"a": "b"}))),
        ("other objects", Box::new(|all| all[0]["objectSelector"] = json!({"matchLabels": {"a": "b"}}))),
        ("another time", Box::new(|all| all[0]["timeoutSeconds"] = json!(1))),
        (
            "another webhook in our name",
            Box::new(|all| {
                let mut more = all[0].clone();
                more["name"] = json!("more.bonafide.dev");
                all.as_array_mut().unwrap().push(more);
            }),
        ),
        ("no webhook at all", Box::new(|all| all[0] = json!({"name": "workloads.bonafide.dev"}))),
    ];
    for (what, change) in &changes {
        let cluster = Cluster::new();
        let (_replica, _bundle) = cluster.usual();
        sleep(5 * SECOND).await;
        let before = cluster.all();
        for path in [VALIDATING, MUTATING] {
            cluster.server.edit(path, |object| {
                reviewing_first(&mut object["webhooks"]);
                change(&mut object["webhooks"]);
            });
        }
        assert!(cluster.server.get(VALIDATING).unwrap()["webhooks"] != json!(before), "{what}");
        sleep(3 * SECOND).await;
        assert_eq!(cluster.all(), before, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_left_alone() {
    let cluster = Cluster::new();
    let (_replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    let other = json!({"name": "other.example.com", "clientConfig": {"url": "https://example.com"},
        "admissionReviewVersions": ["v1"], "sideEffects": "None"});
    cluster.server.edit(VALIDATING, |object| {
        object["metadata"]["labels"]["team"] = json!("a");
        object["metadata"]["annotations"] = json!({"b": "c"});
        object["webhooks"].as_array_mut().unwrap().insert(0, other.clone());
    });
    let before = (cluster.server.get(VALIDATING), cluster.writes());
    sleep(20 * SECOND).await;
    assert_eq!((cluster.server.get(VALIDATING), cluster.writes()), before);

    // Not even where ours have to be put right.
    cluster.server.edit(VALIDATING, |object| {
        let condition = json!([{"name": "never", "expression": "false"}]);
        object["webhooks"][2]["matchConditions"] = condition;
    });
    sleep(5 * SECOND).await;
    let all = cluster.server.get(VALIDATING).unwrap();
    assert_eq!(all["webhooks"].as_array().unwrap().len(), 5);
    assert!(all["webhooks"].as_array().unwrap().contains(&other));
    assert!(!all.to_string().contains("never"), "{all}");
    assert_eq!(all["metadata"]["labels"]["team"], "a");
}

#[tokio::test(start_paused = true)]
async fn what_denies_is_never_opened() {
    let cluster = Cluster::new();
    let first = cluster.usual();
    sleep(5 * SECOND).await;
    drop(first);
    // Another version of Bonafide, with other settings, that the API server cannot reach as yet.
    cluster.is_reached.store(false, Ordering::Relaxed);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let settings = WebhookSettings { timeout_seconds: 7, ..webhooks() };
    let _second = cluster.start(settings, Trust::SelfManaged(known));
    for _ in 0..100 {
        sleep(SECOND / 10).await;
        assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    }
    assert_eq!(cluster.values("/timeoutSeconds"), [7, 2, 7, 2, 7]);
    // Its twin is open, and has to be seen to be reached.
    cluster.open();
    sleep(30 * SECOND).await;
    assert_eq!(cluster.names(), UNPROVEN);
    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(2 * SECOND).await;
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
}

#[tokio::test(start_paused = true)]
async fn e2_a_webhook_that_is_not_reached_any_more_is_told_and_stays() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    cluster.is_reached.store(false, Ordering::Relaxed);
    sleep(60 * SECOND).await;
    assert_eq!(cluster.names(), ALL);
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    let concern = replica.report.borrow().concern().unwrap();
    assert!(!concern.is_open, "{concern:?}");
    insta::assert_snapshot!(concern.message);

    // Opened now, it stays open until it is reached again: nobody would be let in.
    cluster.open();
    sleep(10 * SECOND).await;
    assert_eq!(cluster.names(), ALL);
    assert_eq!(cluster.values("/failurePolicy"), ["Ignore"]);
    assert!(replica.report.borrow().concern().unwrap().is_open);
    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(6 * SECOND).await;
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    assert_eq!(replica.report.borrow().concern(), None);
}

#[tokio::test(start_paused = true)]
async fn b9_a_configuration_that_is_deleted_is_told() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    cluster.server.delete(MUTATING);
    sleep(3 * SECOND).await;
    let pins = replica.report.borrow().concern().unwrap();
    assert!(!pins.is_open);
    insta::assert_snapshot!(pins.message);
    cluster.server.delete(VALIDATING);
    sleep(3 * SECOND).await;
    let all = replica.report.borrow().concern().unwrap();
    assert!(all.is_open);
    insta::assert_snapshot!(all.message);
    assert!(replica.report.borrow().entries().iter().all(|(_, state)| *state == EntryState::Absent));
}

#[tokio::test(start_paused = true)]
async fn whoever_undoes_it_every_time_is_not_answered_as_fast_as_he_can() {
    let cluster = Cluster::new();
    let (_replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    let before = cluster.writes();
    for _ in 0..1200 {
        cluster.server.edit(VALIDATING, |object| {
            reviewing_first(&mut object["webhooks"]);
            object["webhooks"][0]["timeoutSeconds"] = json!(1);
        });
        sleep(SECOND / 10).await;
    }
    let writes = cluster.writes() - before;
    assert!((4..=8).contains(&writes), "{writes} in two minutes");
    sleep(31 * SECOND).await;
    assert_eq!(cluster.values("/timeoutSeconds"), [10, 2, 10, 2, 10]);
}
