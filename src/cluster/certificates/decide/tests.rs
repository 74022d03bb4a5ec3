//! What is done about every state of the Secret, and that it leads to one that is whole.

use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};

use super::{
    super::content::{CERTIFICATE, KEY, KEYS},
    *,
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

fn just_before(time: Duration) -> Duration {
    time.saturating_sub(SECOND)
}

fn names() -> Names {
    Names::of("bonafide", "ns")
}

fn start() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn maker(names: &Names, now: Timestamp) -> Maker<'_> {
    Maker { names, lifetimes: Lifetimes::default(), now }
}

/// A content that was made at the start.
fn made() -> Content {
    maker(&names(), start()).begin().unwrap()
}

fn with(content: &Content, key: &'static str, value: &str) -> Content {
    let mut content = content.clone();
    content.set(key, value.to_owned());
    content
}

fn without(content: &Content, key: &'static str) -> Content {
    let mut content = content.clone();
    content.remove(key);
    content
}

fn text(content: &Content, key: &'static str) -> String {
    String::from_utf8(content.get(key).unwrap().clone()).unwrap()
}

struct Case<'a> {
    seen: Option<&'a Content>,
    kept: Option<&'a Content>,
    is_trusted: bool,
    after: Duration,
}

impl Case<'_> {
    fn of(seen: &Content) -> Case<'_> {
        Case { seen: Some(seen), kept: None, is_trusted: false, after: Duration::ZERO }
    }

    /// What is done, in words, and the content after it.
    fn act(&self) -> (String, Option<Content>) {
        let names = names();
        let view = View {
            seen: self.seen,
            kept: self.kept,
            is_trusted: self.is_trusted,
            names: &names,
            lifetimes: Lifetimes::default(),
            now: later(start(), self.after),
        };
        let action = decide(&view);
        let content = perform(&view, &action).unwrap();
        (action.to_string(), content)
    }

    fn words(&self) -> String {
        self.act().0
    }
}

const NOTHING: &str = "the certificate is left as it is";

#[test]
fn makes_everything_where_there_is_nothing() {
    let (words, content) = Case { seen: None, kept: None, is_trusted: false, after: Duration::ZERO }.act();
    insta::assert_snapshot!(words, @"made a certificate authority and a certificate: there is no Secret");
    let content = content.unwrap();
    let serving = content.serving(&names(), start()).unwrap();
    assert!(serving.has_every_name);
    assert_eq!(serving.leaf.not_after, later(start(), DAY * 90));
    assert_eq!(serving.leaf.not_before, start().checked_sub(HOUR).unwrap());
    assert_eq!(serving.signer.not_after, later(start(), DAY * 730));
    assert_eq!(serving.bundle(), text(&content, AUTHORITIES));

    let empty = Content::default();
    insta::assert_snapshot!(Case::of(&empty).words(), @"made a certificate authority and a certificate: tls.crt is missing");
    assert!(is_whole(&Case::of(&empty).act().1.unwrap(), &names(), start()));
}

#[test]
fn leaves_what_is_whole_alone_until_two_thirds_are_over() {
    let content = made();
    let at = |after| Case { after, ..Case::of(&content) };
    assert_eq!(at(Duration::ZERO).words(), NOTHING);
    assert_eq!(at(just_before(DAY * 60)).words(), NOTHING);
    let (words, renewed) = at(DAY * 60).act();
    insta::assert_snapshot!(words, @"made a new certificate: its time is nearly over");
    let renewed = renewed.unwrap();
    let now = later(start(), DAY * 60);
    let serving = renewed.serving(&names(), now).unwrap();
    assert_eq!(serving.leaf.not_after, later(now, DAY * 90));
    for same in [AUTHORITIES, AUTHORITY_KEY] {
        assert_eq!(renewed.get(same), content.get(same));
    }
    for other in [CERTIFICATE, KEY] {
        assert_ne!(renewed.get(other), content.get(other));
    }
}

#[test]
fn a_shorter_lifetime_holds_for_what_is_there() {
    let content = made();
    let names = names();
    let lifetimes = Lifetimes::new(DAY * 3, DAY * 730).unwrap();
    let at = |after| {
        let now = later(start(), after);
        decide(&View { seen: Some(&content), kept: None, is_trusted: false, names: &names, lifetimes, now })
    };
    assert!(matches!(at(just_before(DAY * 2)), Action::Nothing));
    assert!(matches!(at(DAY * 2), Action::Certify(Cause::Due, _)));
}

#[test]
fn an_expired_certificate_is_replaced_by_one_of_the_same_authority() {
    let content = made();
    let at = |after| Case { after, kept: Some(&content), ..Case::of(&content) };
    insta::assert_snapshot!(at(DAY * 90).words(), @"made a new certificate: tls.crt is valid from 2029-12-31T23:00:00Z until 2030-04-01T00:00:00Z");
    insta::assert_snapshot!(at(DAY * 730).words(), @"made a certificate authority and a certificate: tls.crt is valid from 2029-12-31T23:00:00Z until 2030-04-01T00:00:00Z");
}

#[test]
fn what_cannot_be_served_with_is_replaced_by_what_was_good() {
    let good = made();
    let other = made();
    let elsewhere = maker(&Names::of("bonafide", "elsewhere"), start()).begin().unwrap();
    let mut words = Vec::new();
    for spoilt in [
        Content::default(),
        with(&good, KEY, &text(&other, KEY)),
        with(&good, CERTIFICATE, &text(&other, CERTIFICATE)),
        with(&with(&good, CERTIFICATE, &text(&other, CERTIFICATE)), KEY, &text(&other, KEY)),
        with(&good, AUTHORITIES, &text(&other, AUTHORITIES)),
        with(&good, AUTHORITIES, &text(&good, CERTIFICATE)),
        with(&good, AUTHORITY_KEY, &text(&other, AUTHORITY_KEY)),
        without(&good, AUTHORITY_KEY),
        elsewhere,
    ] {
        let (with_memory, restored) = Case { kept: Some(&good), ..Case::of(&spoilt) }.act();
        assert_eq!(restored.as_ref(), Some(&good), "{with_memory}");
        words.push(format!("{with_memory}\n  else {}", Case::of(&spoilt).words()));
    }
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn a_memory_whose_certificate_has_ended_is_renewed_and_one_whose_authority_has_is_not_written() {
    let (good, empty) = (made(), Content::default());
    for seen in [None, Some(&empty)] {
        let case = Case { seen, kept: Some(&good), is_trusted: false, after: DAY * 90 };
        let restored = case.act().1.unwrap();
        let serving = restored.serving(&names(), later(start(), DAY * 90)).unwrap();
        assert_eq!(serving.signer, good.serving(&names(), start()).unwrap().signer);
        assert_eq!(serving.leaf.not_after, later(start(), DAY * 180));
        let words = Case { after: DAY * 730, ..case }.words();
        assert!(words.starts_with("made a certificate authority and a certificate: "), "{words}");
    }
}

#[test]
fn a_removed_secret_is_restored_with_a_new_authority() {
    let good = made();
    let removed = Case { seen: None, kept: Some(&good), is_trusted: false, after: DAY };
    let (words, content) = removed.act();
    insta::assert_snapshot!(words, @"restored the Secret of the certificate, which was removed, and announced a new certificate authority");
    let content = content.unwrap();
    assert_eq!(
        content.get(CERTIFICATE),
        good.get(CERTIFICATE),
        "nobody meets a certificate that he does not know"
    );
    assert!(text(&content, AUTHORITIES).starts_with(&text(&good, AUTHORITIES)));
    assert!(content.signer(NEXT_KEY, later(start(), DAY)).is_ok());
    // Removed once more before the new one signs: nothing is started anew.
    let again = Case { kept: Some(&content), ..removed };
    assert_eq!(again.act().1.as_ref(), Some(&content));
}

#[test]
fn a_new_authority_is_trusted_first_and_signs_later() {
    let old = made();
    let due = DAY * 730 * 2 / 3;
    let mut content = old.clone();
    // The certificate is renewed until then.
    for half in 1..=16_u32 {
        let now = DAY * 30 * half;
        content = Case { after: now, ..Case::of(&content) }.act().1.unwrap_or(content);
    }
    assert_eq!(Case { after: just_before(due), ..Case::of(&content) }.words(), NOTHING);
    let (words, announced) = Case { after: due, ..Case::of(&content) }.act();
    insta::assert_snapshot!(words, @"announced a new certificate authority: its time is nearly over");
    let announced = announced.unwrap();
    for same in [CERTIFICATE, KEY, AUTHORITY_KEY] {
        assert_eq!(announced.get(same), content.get(same));
    }
    assert_eq!(announced.authorities(later(start(), due)).unwrap().len(), 2);
    // Not trusted, it waits; however often one looks.
    assert_eq!(Case { after: due + DAY, ..Case::of(&announced) }.words(), NOTHING);

    let case = Case { after: due + DAY, is_trusted: true, ..Case::of(&announced) };
    let (words, promoted) = case.act();
    insta::assert_snapshot!(words, @"made a certificate of the new certificate authority: the announced authority is trusted by now");
    let promoted = promoted.unwrap();
    let now = later(start(), due + DAY);
    let serving = promoted.serving(&names(), now).unwrap();
    assert_ne!(serving.signer, content.serving(&names(), now).unwrap().signer);
    assert_eq!(serving.authorities.len(), 2, "the certificate before may still be served somewhere");
    assert_eq!(text(&promoted, AUTHORITIES), text(&announced, AUTHORITIES));
    assert_eq!(promoted.get(PREVIOUS), content.get(CERTIFICATE));
    assert_eq!(promoted.get(NEXT_KEY), None);

    // The last certificate of the old authority was made 480 days after the start; it is valid in the last second too.
    let over = DAY * 570 + SECOND;
    assert_eq!(
        Case { after: just_before(over), is_trusted: true, ..Case::of(&promoted) }
            .act()
            .1
            .unwrap()
            .get(PREVIOUS),
        promoted.get(PREVIOUS),
        "the certificate is due, and nothing else"
    );
    let renewed = Case { after: just_before(over), ..Case::of(&promoted) }.act().1.unwrap();
    assert_eq!(Case { after: just_before(over), ..Case::of(&renewed) }.words(), NOTHING);
    let (words, forgotten) = Case { after: over, ..Case::of(&renewed) }.act();
    insta::assert_snapshot!(words, @"1 certificate authorities are trusted; others are not needed any more");
    let forgotten = forgotten.unwrap();
    assert_eq!(forgotten.serving(&names(), later(start(), over)).unwrap().authorities.len(), 1);
    assert_eq!(forgotten.get(PREVIOUS), None);
    assert_eq!(Case { after: over, ..Case::of(&forgotten) }.words(), NOTHING);
}

#[test]
fn an_authority_without_a_key_is_replaced_in_good_order() {
    for lost in [without(&made(), AUTHORITY_KEY), with(&made(), AUTHORITY_KEY, "garbage")] {
        let (words, announced) = Case::of(&lost).act();
        assert!(words.starts_with("announced a new certificate authority: ca.key is m"), "{words}");
        let announced = announced.unwrap();
        assert_eq!(Case::of(&announced).words(), NOTHING);
        let promoted = Case { is_trusted: true, ..Case::of(&announced) }.act().1.unwrap();
        assert!(is_whole(&promoted, &names(), start()));
        assert_eq!(promoted.authorities(start()).unwrap().len(), 2);
    }
}

#[test]
fn an_authority_that_is_never_trusted_signs_when_the_one_before_has_ended() {
    let mut content = made();
    let mut writes = 0;
    for day in 1..=731_u32 {
        if let (_, Some(changed)) = (Case { after: DAY * day, ..Case::of(&content) }).act() {
            content = changed;
            writes += 1;
        }
        assert!(content.serving(&names(), later(start(), DAY * day)).is_ok(), "day {day}");
    }
    assert!(writes < 20, "{writes}: a certificate that gains nothing is not renewed");
    let end = content.serving(&names(), later(start(), DAY * 731)).unwrap();
    assert!(end.signer.not_after > later(start(), DAY * 900));
}

#[test]
fn years_pass() {
    let mut content = made();
    let mut log = Vec::new();
    // Two days after a change of the bundle, the API servers trust it.
    let mut bundle = (content.serving(&names(), start()).unwrap().bundle(), 0);
    for day in 0..1100_u32 {
        let is_trusted = day >= bundle.1 + 2;
        let (words, changed) = Case { after: DAY * day, is_trusted, ..Case::of(&content) }.act();
        let Some(changed) = changed else { continue };
        let now = later(start(), DAY * day);
        let (before, after) =
            (content.serving(&names(), now).unwrap(), changed.serving(&names(), now).unwrap());
        assert!(before.authorities.contains(&after.signer), "day {day}: trusted before it signs");
        if after.bundle() != bundle.0 {
            bundle = (after.bundle(), day);
        }
        log.push(format!("day {day:4}: {words}; {} trusted", after.authorities.len()));
        content = changed;
    }
    insta::assert_snapshot!(log.join("\n"));
}

#[test]
fn names_that_are_missing_are_added() {
    let names = names();
    let mut content = made();
    let signer = content.signer(AUTHORITY_KEY, start()).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = DistinguishedName::new();
    issuer.distinguished_name.push(DnType::CommonName, signer.name.as_str());
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![names.service.clone()])
        .unwrap()
        .signed_by(&key, &Issuer::from_params(&issuer, &signer.key))
        .unwrap();
    content.set(CERTIFICATE, leaf.pem());
    content.set(KEY, key.serialize_pem());
    let (words, certified) = Case::of(&content).act();
    insta::assert_snapshot!(words, @"made a new certificate: the certificate lacks a name");
    assert!(certified.unwrap().serving(&names, start()).unwrap().has_every_name);
}

#[test]
fn whatever_stands_there_becomes_whole_and_stays_so() {
    let good = made();
    let other = made();
    let mut announced = maker(&names(), start()).announce(&good).unwrap();
    announced.set(PREVIOUS, text(&other, CERTIFICATE));
    let pem = text(&good, CERTIFICATE);
    let huge = pem.repeat(200);
    let values = ["", "garbage", "\u{0}\u{1}", &pem[..pem.len() / 2], &pem, &huge, &text(&other, KEY)];
    for base in [&good, &announced] {
        for key in KEYS {
            for value in values {
                for spoilt in [with(base, key, value), without(base, key)] {
                    for kept in [None, Some(base)] {
                        settles(&spoilt, kept, &format!("{key} = {value:.20}"));
                    }
                }
            }
        }
    }
}

/// Acts until nothing is left to do, as the leader would, and sees that this comes soon.
fn settles(spoilt: &Content, kept: Option<&Content>, what: &str) {
    let mut content = spoilt.clone();
    let mut log = Vec::new();
    for _ in 0..6 {
        let before = content.serving(&names(), start()).ok();
        let (words, changed) = Case { kept, is_trusted: true, ..Case::of(&content) }.act();
        log.push(words);
        let Some(changed) = changed else {
            assert!(is_whole(&content, &names(), start()), "{what}: {log:?}");
            return;
        };
        content = changed;
        let after = content.serving(&names(), start()).ok();
        if let (Some(before), Some(after), None) = (before, after, kept) {
            assert!(before.authorities.contains(&after.signer), "{what}: {log:?}");
        }
    }
    panic!("{what} does not settle: {log:?}");
}

#[test]
fn a_bundle_does_not_grow_where_the_next_key_is_lost_again_and_again() {
    let mut content = without(&made(), AUTHORITY_KEY);
    for _ in 0..40 {
        content = Case::of(&without(&content, NEXT_KEY)).act().1.unwrap();
        content = Case::of(&content).act().1.unwrap_or(content);
        assert!(content.authorities(start()).unwrap().len() <= 3);
    }
}

#[test]
fn keys_are_not_shown() {
    let content = made();
    let shown = format!("{content:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains("ca.key"), "{shown}");
}
