//! What a candidate does about each Lease that it may see.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// Two candidates of one moment that see the same Lease.
fn candidates() -> (Elector, Elector, Instant) {
    let of = |name: &str| Elector::new(name.to_owned(), Timing::default());
    (of("a"), of("b"), Instant::now())
}

fn written(step: Step) -> LeaseSpec {
    match step {
        Step::Write(spec) => spec,
        Step::Wait => panic!("it waits"),
    }
}

/// The Lease as `a` took it, `a` having led from `now`.
fn held(a: &mut Elector, now: Instant) -> LeaseSpec {
    let spec = written(a.look(None, now, wall(0)));
    a.renewed(now);
    spec
}

#[test]
fn takes_a_lease_that_is_not_there() {
    let (mut a, _, now) = candidates();
    let spec = written(a.look(None, now, wall(0)));
    assert_eq!(holder(&spec), Some("a"));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert_eq!(spec.lease_transitions, Some(0));
    assert_eq!(a.leads_until(), None, "before the API server has said so");
    a.renewed(now);
    assert_eq!(a.leads_until(), Some(now + 10 * SECOND));
}

#[test]
fn takes_a_lease_without_a_holder_at_once() {
    for holder in [None, Some(String::new())] {
        let (_, mut b, now) = candidates();
        let free = LeaseSpec { holder_identity: holder, lease_transitions: Some(3), ..LeaseSpec::default() };
        assert_eq!(written(b.look(Some(&free), now, wall(0))).lease_transitions, Some(4));
    }
}

#[test]
fn leaves_a_lease_alone_until_it_was_seen_unchanged_for_its_time() {
    let (mut a, mut b, now) = candidates();
    let spec = held(&mut a, now);
    assert_eq!(b.look(Some(&spec), now + 100 * SECOND, wall(100)), Step::Wait, "first seen only now");
    assert_eq!(b.look(Some(&spec), now + 114 * SECOND, wall(114)), Step::Wait);
    let taken = written(b.look(Some(&spec), now + 115 * SECOND, wall(115)));
    assert_eq!(holder(&taken), Some("b"));
    assert_eq!(taken.lease_transitions, Some(1));
}

#[test]
fn a_renewal_starts_the_time_anew() {
    let (mut a, mut b, now) = candidates();
    let spec = held(&mut a, now);
    assert_eq!(b.look(Some(&spec), now, wall(0)), Step::Wait);
    let renewed = written(a.look(Some(&spec), now + 5 * SECOND, wall(5)));
    assert_ne!(renewed, spec);
    assert_eq!(b.look(Some(&renewed), now + 14 * SECOND, wall(14)), Step::Wait);
    assert_eq!(b.look(Some(&renewed), now + 28 * SECOND, wall(28)), Step::Wait);
    assert_ne!(b.look(Some(&renewed), now + 29 * SECOND, wall(29)), Step::Wait);
}

#[test]
fn a_clock_that_is_wrong_changes_nothing() {
    for skew in [-86_400, 86_400] {
        let (mut a, mut b, now) = candidates();
        let spec = held(&mut a, now);
        assert_eq!(b.look(Some(&spec), now, wall(skew)), Step::Wait);
        assert_eq!(b.look(Some(&spec), now + 14 * SECOND, wall(skew + 14)), Step::Wait);
        assert_ne!(b.look(Some(&spec), now + 15 * SECOND, wall(skew + 15)), Step::Wait);
    }
}

#[test]
fn the_leader_stops_before_another_can_begin() {
    let (mut a, mut b, now) = candidates();
    let spec = held(&mut a, now);
    // At the earliest, the other sees the Lease in the moment it was sent.
    assert_eq!(b.look(Some(&spec), now, wall(0)), Step::Wait);
    let stops = a.leads_until().unwrap();
    assert_eq!(b.look(Some(&spec), stops, wall(10)), Step::Wait);
}

#[test]
fn renewing_keeps_who_took_it_and_when() {
    let (mut a, _, now) = candidates();
    let spec = held(&mut a, now);
    let renewed = written(a.look(Some(&spec), now + 5 * SECOND, wall(5)));
    assert_eq!(renewed.acquire_time, spec.acquire_time);
    assert_eq!(renewed.lease_transitions, spec.lease_transitions);
    assert_eq!(renewed.renew_time, Some(MicroTime(wall(5))));
}

#[test]
fn a_lease_that_was_taken_away_is_not_led() {
    let (mut a, mut b, now) = candidates();
    let spec = held(&mut a, now);
    b.look(Some(&spec), now, wall(0));
    let taken = written(b.look(Some(&spec), now + 15 * SECOND, wall(15)));
    assert_eq!(a.look(Some(&taken), now + 15 * SECOND, wall(15)), Step::Wait);
    assert_eq!(a.leads_until(), None);
}

#[test]
fn the_answer_that_got_lost_counts_once_it_is_seen() {
    let (mut a, _, now) = candidates();
    let spec = written(a.look(None, now, wall(0)));
    // No word on whether it was written; then it is read.
    let renewed = written(a.look(Some(&spec), now + SECOND, wall(1)));
    assert_eq!(renewed.acquire_time, spec.acquire_time);
}

#[test]
fn a_predecessor_of_the_same_name_is_somebody_else() {
    let (mut a, _, now) = candidates();
    let spec = held(&mut a, now);
    let mut restarted = Elector::new("a".to_owned(), Timing::default());
    assert_eq!(restarted.look(Some(&spec), now, wall(1)), Step::Wait);
    assert_ne!(restarted.look(Some(&spec), now + 15 * SECOND, wall(16)), Step::Wait);
}

#[test]
fn a_lease_is_not_believed_to_last_forever() {
    for (says, after) in [(Some(i32::MAX), 60), (Some(0), 15), (Some(-1), 15), (None, 15), (Some(1), 1)] {
        let (_, mut b, now) = candidates();
        let spec = LeaseSpec {
            holder_identity: Some("x".to_owned()),
            lease_duration_seconds: says,
            lease_transitions: Some(i32::MAX),
            ..LeaseSpec::default()
        };
        assert_eq!(b.look(Some(&spec), now, wall(0)), Step::Wait, "{says:?}");
        let early = Duration::from_millis(after * 1000 - 1);
        assert_eq!(b.look(Some(&spec), now + early, wall(0)), Step::Wait, "{says:?}");
        assert_ne!(b.look(Some(&spec), now + Duration::from_secs(after), wall(0)), Step::Wait, "{says:?}");
    }
}

#[test]
fn gives_back_what_it_holds_and_nothing_else() {
    let (mut a, mut b, now) = candidates();
    let spec = held(&mut a, now);
    assert_eq!(b.farewell(Some(&spec), wall(1)), None);
    assert_eq!(a.farewell(None, wall(1)), None);
    let left = a.farewell(Some(&spec), wall(1)).unwrap();
    assert_eq!(holder(&left), None);
    assert_eq!(a.leads_until(), None);
    assert_ne!(b.look(Some(&left), now + SECOND, wall(1)), Step::Wait, "nobody has to wait");
}

#[test]
fn the_time_of_taking_survives_the_wire() {
    let (mut a, _, now) = candidates();
    let nanoseconds = wall(0) + Duration::from_nanos(123_456_789);
    let spec = written(a.look(None, now, nanoseconds));
    let read: LeaseSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
    assert_ne!(a.look(Some(&read), now, wall(1)), Step::Wait);
}
