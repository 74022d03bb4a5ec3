//! Whom the API server is to trust.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_bundle_is_written_and_its_time_is_counted_from_when_it_was_seen() {
    let cluster = Cluster::new();
    let (replica, bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    let since = replica.installed.borrow().as_ref().unwrap().since;
    sleep(10 * SECOND).await;
    assert_eq!(replica.installed.borrow().as_ref().unwrap().since, since);
    bundle.send_replace(Some(Bundle::from(*b"one two")));
    let changed = Instant::now();
    sleep(4 * SECOND).await;
    assert_eq!(cluster.values(BUNDLE), [shown("one two")]);
    assert_eq!(replica.bundle().as_deref(), Some(b"one two".as_slice()));
    assert!(replica.installed.borrow().as_ref().unwrap().since > changed);

    // Somebody takes it away from one of them: it is not trusted everywhere, until it was seen to be again.
    cluster.server.edit(MUTATING, |object| object["webhooks"][0]["clientConfig"]["caBundle"] = shown("x"));
    let spoilt = Instant::now();
    sleep(5 * SECOND).await;
    assert!(replica.installed.borrow().as_ref().unwrap().since > spoilt);
}

#[tokio::test(start_paused = true)]
async fn a_bundle_of_somebody_else_is_never_touched() {
    let cluster = Cluster::new();
    let replica = cluster.start(webhooks(), Trust::Injected);
    sleep(5 * SECOND).await;
    assert_eq!(cluster.values(BUNDLE), [Value::Null]);
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    let inject = |path: &str| {
        cluster.server.edit(path, |object| {
            for webhook in object["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = shown("theirs");
            }
        });
    };
    inject(VALIDATING);
    inject(MUTATING);
    let writes = cluster.writes();
    sleep(10 * SECOND).await;
    assert_eq!(cluster.writes(), writes, "nothing is wrong with that");
    // Neither by what an apply puts right nor by what needs more.
    cluster.server.edit(VALIDATING, |object| {
        object["webhooks"][0]["timeoutSeconds"] = json!(1);
        object["webhooks"][1]["namespaceSelector"]["matchLabels"] = json!({"a": "b"});
    });
    sleep(5 * SECOND).await;
    assert_eq!(cluster.values("/timeoutSeconds"), [10, 2, 10, 2, 10]);
    assert_eq!(cluster.values(BUNDLE), [shown("theirs")]);
    assert_eq!(replica.bundle(), None);
}

#[tokio::test]
async fn a_bundle_of_a_file_is_read_again() {
    let folder = std::env::temp_dir().join(format!("bonafide-install-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("ca.pem");
    let pem = |byte: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(byte))
    };
    let error = read_bundle(path.clone()).await.unwrap_err();
    assert!(error.contains("No such file"), "{error}");
    for (text, why) in [("", "no PEM certificate"), ("-----BEGIN CERTIFICATE-----\n", "")] {
        std::fs::write(&path, text).unwrap();
        let error = read_bundle(path.clone()).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    std::fs::write(&path, "a".repeat(300 * 1024)).unwrap();
    assert!(read_bundle(path.clone()).await.unwrap_err().contains("longer"));

    std::fs::write(&path, pem("one")).unwrap();
    let cluster = Cluster::new();
    let (_leads, leading) = watch::channel(true);
    let settings = Settings { webhooks: webhooks(), trust: Trust::File(path.clone()) };
    let (sender, mut installed) = watch::channel(None);
    let client = Client::new(cluster.server.router(), "ns");
    let report = watch::Sender::new(WebhookReport::new(&webhooks()));
    let (_needing, reach) = watch::channel(Some(WebhookReach::EVERYTHING));
    let (applied, _) = watch::channel(None);
    let census = Arc::new(Census(Arc::clone(&cluster.is_current)));
    let links =
        Links { leads: leading, installed: sender, report, probes: Arc::default(), reach, applied, census };
    let task = tokio::spawn(run(client, settings, links, std::future::pending()));
    let has = |wanted: String| {
        move |known: &Option<Installed>| {
            known.as_ref().is_some_and(|known| *known.bundle == *wanted.as_bytes())
        }
    };
    installed.wait_for(has(pem("one"))).await.unwrap();
    // What is spoilt leaves the one before in force.
    std::fs::write(&path, "garbage").unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(cluster.values(BUNDLE), [shown(&pem("one"))]);
    std::fs::write(&path, pem("two")).unwrap();
    installed.wait_for(has(pem("two"))).await.unwrap();
    assert_eq!(cluster.values(BUNDLE), [shown(&pem("two"))]);
    task.abort();
    std::fs::remove_dir_all(&folder).unwrap();
}
