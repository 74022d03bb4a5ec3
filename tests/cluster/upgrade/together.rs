//! Replicas of the version before and of this one, as the API server asks them.

use std::{thread, time::Duration};

use bonafide_kit::{
    image::{Image, attach_bundle},
    plane::{ControlPlane, Namespace, eventually},
    scenario::{REF, SOURCE, Scenario, WORKFLOW, bundle},
    sigstore::Identity,
};

use super::{
    Definitions, Previous, is_closed, is_of_this_version, repository, retire, stored, until_as_before,
    until_it_leads,
    watched::{self, Expected, Watched},
};
use crate::{
    balancer::Balancer,
    installation::{Installation, entries, make},
    shared::alone,
    webhook::Webhook,
};

/// No policy names it.
const OTHER: &str = "registry.invalid/app:v1";

/// An image of the world that an outsider's pull request had built, on the default branch.
fn outsider(world: &Scenario) -> String {
    let pushed = Image::index(&["linux/amd64", "linux/arm64"]).seed("outsider").push(
        &world.registry,
        "acme/outsider",
        "v1",
    );
    let identity = Identity::github(SOURCE, WORKFLOW, REF, "pull_request_target");
    for (_, leaf) in &pushed.platforms {
        attach_bundle(
            &world.registry,
            "acme/outsider",
            leaf,
            bundle(&world.sigstore, &identity, "outsider", leaf),
        );
    }
    world.registry.reference("acme/outsider", &pushed.digest)
}

/// A namespace with the policy of the world, as it was written before triggers were asked for; it is in force.
fn shop<'a>(plane: &'a ControlPlane, name: &str, world: &Scenario) -> Namespace<'a> {
    let namespace = plane.namespace(name);
    let policy = world.policy().replace("namespace: shop", &format!("namespace: {name}"));
    namespace.apply(&policy.replace("        triggers: [push]\n", "")).ok();
    eventually("the policy to be in force", || match make(plane, name, world.image("bare")) {
        Err(said) if said.contains("NoProvenance") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    namespace
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_both_versions_serve_whichever_leads() {
    let Some(previous) = Previous::find() else { return };
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let outsider = outsider(&world);
    let definitions = Definitions::none(&plane);
    let mut release = Installation::from_chart(&previous.chart, &plane, "upgraded", Balancer::start(), &[]);
    release.trust(&world);
    let flags = ["old-1", "old-2"].map(|name| release.flags(name));
    // Some of it is what a webhook would have refused.
    let _stored = plane.namespace("stored");
    plane.apply(&stored(&world)).ok();
    let old = release.replica_of(&previous.program, &flags[0]);
    release.enforced();
    let _shop = shop(&plane, "shop-before", &world);
    until_as_before(&plane);
    make(&plane, "shop-before", &outsider).expect("the version before accepts every event");

    // The definitions first, as the guide says. A leader of the version before that starts still sees that it is reached.
    definitions.upgrade();
    let old = restart(&release, &previous, old, &flags[0]);
    // Then the chart, and with it the rights. Values are reused, which lack what is new.
    release.chart = repository("charts/bonafide").into();
    release.helm("upgrade", &["--reuse-values"]);
    let old = restart(&release, &previous, old, &flags[0]);
    until_it_leads(&plane, "upgraded", "old-1");

    let trusted = watched::bundle(&plane);
    let mut watched = Watched::new(&plane).await;
    watched.pods("shop-before", world.image("bare"), Expected::Denied);
    watched.pods("shop-before", world.image("shop"), Expected::Admitted);
    watched.pods("default", OTHER, Expected::Admitted);
    watched.entries("Fail");

    // Both serve, and the version before leads.
    let new = release.replica("new-1");
    both_serve(&release, &watched, [&old, &new]);
    let _early = shop(&plane, "shop-old-leads", &world);
    is_closed(&plane).unwrap();

    // This version leads.
    retire(&release, old);
    until_it_leads(&plane, "upgraded", "new-1");
    eventually("its entries", || is_of_this_version(&plane));
    until_as_before(&plane);
    let said = eventually("the trigger to be asked for", || match make(&plane, "shop-before", &outsider) {
        Err(said) => Ok(said),
        Ok(made) => Err(made),
    });
    assert!(said.contains("repository_dispatch, pull_request_target]"), "{said}");

    // Both serve again.
    let old = release.replica_of(&previous.program, &flags[1]);
    both_serve(&release, &watched, [&old, &new]);
    let _late = shop(&plane, "shop-new-leads", &world);
    is_closed(&plane).unwrap();
    until_as_before(&plane);

    // Rolled back: the version before leads what this one has written.
    plane.helm(&["rollback", "bonafide", "1", "--namespace=upgraded"]).ok();
    retire(&release, new);
    until_it_leads(&plane, "upgraded", "old-2");
    eventually("the entries of the version before", || match is_of_this_version(&plane) {
        Ok(()) => Err("they are of this version".to_owned()),
        Err(_) => is_closed(&plane),
    });
    watched.more(20);
    for namespace in ["shop-before", "shop-old-leads", "shop-new-leads"] {
        let said = make(&plane, namespace, world.image("bare")).expect_err("it has no provenance");
        assert!(said.contains("NoProvenance"), "{said}");
        make(&plane, namespace, world.image("shop")).unwrap();
        make(&plane, namespace, &outsider).unwrap();
    }
    assert_eq!(watched::bundle(&plane), trusted, "the same Secret throughout");
    until_as_before(&plane);
    watched.end().await;
    assert!(!old.log().contains("forbidden"), "{}", old.log());
}

/// Starts a leader anew, and somebody takes all entries away meanwhile. It makes them again, and has to see first that it is reached.
fn restart(release: &Installation<'_>, previous: &Previous, old: Webhook, flags: &[String]) -> Webhook {
    release.service.remove(old.port);
    drop(old);
    release.remove_entries();
    let old = release.replica_of(&previous.program, flags);
    release.enforced();
    old
}

/// Has the API server connect to each replica, and create pods meanwhile.
fn both_serve(release: &Installation<'_>, watched: &Watched, replicas: [&Webhook; 2]) {
    let is_denial = |line: &&str| line.contains("reviews_total{") && line.contains("NoProvenance");
    let denied = || {
        replicas.map(|replica| {
            let metrics = replica.get("/metrics").unwrap();
            let counts = metrics.lines().filter(is_denial).map(|line| line.rsplit(' ').next().unwrap());
            counts.map(|count| count.parse::<u64>().unwrap()).sum::<u64>()
        })
    };
    let before = denied();
    eventually("each replica to deny a pod", || {
        tokio::task::block_in_place(|| watched.between(|| release.service.disconnect()));
        watched.more(12);
        let now = denied();
        if (0..2).all(|at| now[at] > before[at]) { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    });
}

/// With `Ignore`, nothing but the entries themselves keeps pods out.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_admit_stay_while_a_replica_of_the_version_before_serves_them() {
    let Some(previous) = Previous::find() else { return };
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let definitions = Definitions::none(&plane);
    let ignore = ["--set=failurePolicy=Ignore"];
    let mut release =
        Installation::from_chart(&previous.chart, &plane, "upgraded-open", Balancer::start(), &ignore);
    release.trust(&world);
    let flags = ["old-1", "old-2"].map(|name| release.flags(name));
    let old = release.replica_of(&previous.program, &flags[0]);
    let _shop = shop(&plane, "shop-open", &world);
    definitions.upgrade();
    release.chart = repository("charts/bonafide").into();
    release.helm("upgrade", &["--reuse-values"]);

    // One of this version leads, and no probe reaches it: the API server is connected to another one.
    let new = release.pod("new-1");
    retire(&release, old);
    until_it_leads(&plane, "upgraded-open", "new-1");
    let old = release.replica_of(&previous.program, &flags[1]);
    eventually("the policy to be in force again", || match make(&plane, "shop-open", world.image("bare")) {
        Err(said) if said.contains("NoProvenance") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut watched = Watched::new(&plane).await;
    watched.pods("shop-open", world.image("bare"), Expected::Denied);
    watched.pods("shop-open", world.image("shop"), Expected::Admitted);
    watched.entries("Ignore");
    thread::sleep(Duration::from_secs(25));
    until_it_leads(&plane, "upgraded-open", "new-1");
    is_of_this_version(&plane).unwrap();
    watched.end().await;
    drop((new, old));
}

/// While this version has no policy, it writes no entries for workloads. The version before has to make them, under the new definitions.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_takes_over_where_this_one_needs_no_entries() {
    let Some(previous) = Previous::find() else { return };
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let definitions = Definitions::none(&plane);
    definitions.upgrade();
    let chart = repository("charts/bonafide");
    let mut release = Installation::from_chart(chart.as_ref(), &plane, "downgraded", Balancer::start(), &[]);
    release.trust(&world);
    let new = release.replica("new-1");
    let spared = ["lease.bonafide.dev", "policies.bonafide.dev"];
    eventually("the entries that there are without policies", || {
        let entries = entries(&plane, super::VALIDATING)?;
        let mut names = super::names(&entries);
        names.sort_unstable();
        // The time is that of a webhook that was reached.
        let is_reached = entries.iter().any(|entry| entry["timeoutSeconds"] == 10);
        if names == spared && is_reached { Ok(()) } else { Err(format!("{names:?}")) }
    });
    release.chart.clone_from(&previous.chart);
    release.helm("upgrade", &["--reset-values"]);
    let old = release.replica_of(&previous.program, &release.flags("old-1"));
    retire(&release, new);
    until_it_leads(&plane, "downgraded", "old-1");
    eventually("the entries to deny", || is_closed(&plane));
    let _shop = shop(&plane, "shop-downgraded", &world);
    make(&plane, "shop-downgraded", world.image("shop")).unwrap();
    assert!(!old.log().contains("forbidden"), "{}", old.log());
}
