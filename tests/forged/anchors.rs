//! The authorities of a trust root: when each of their certificates vouches, and of which kinds their keys and those of signers may be.

use bonafide::{
    domain::{
        identity::TrustRootName,
        verdict::{Outcome, Reason},
    },
    gather::ports::RootKeeper as _,
    trust::{Keeper, Roots},
};
use bonafide_kit::sigstore::{
    AuthorityCertificate, Builder, BundleVersion, Defect, EntryKind, KeyKind, Sigstore,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    form::{By, Form, Kept, World, denied, judge, statement},
    roots::{ISSUERS, PERSON, authority, nameless, policy},
};

const V03: Kept = Kept::Bundle(BundleVersion::V03);

fn certified(kept: Kept, entry: Option<EntryKind>) -> Form {
    Form { by: By::Certificate, kept, entry }
}

/// The forms in which a certificate verifies: with each kind of log, in both places, and by a timestamp alone.
const FORMS: [(Kept, Option<EntryKind>); 7] = [
    (V03, Some(EntryKind::Dsse001)),
    (V03, Some(EntryKind::Intoto002)),
    (V03, Some(EntryKind::HashedRekord002)),
    (V03, Some(EntryKind::Dsse002)),
    (V03, None),
    (Kept::Att, Some(EntryKind::Intoto001)),
    (Kept::Att, Some(EntryKind::Dsse001)),
];

fn world(form: Form, change: impl Fn(Builder) -> Builder) -> World {
    let builder =
        if form.entry.is_some() { Sigstore::builder() } else { Sigstore::builder().timestamps_only() };
    World::under(form, change(builder).build())
}

/// Windows of certificates: one in which the signature is made, and some in which it is not.
fn windows() -> [(bool, Timestamp, Timestamp); 4] {
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let year = SignedDuration::from_hours(24 * 365);
    [
        (true, now - year, now + year),
        (true, now - hour, now + hour),
        (false, now - year, now - hour),
        (false, now + hour, now + year),
    ]
}

/// The trust root says that the authority issues for ten years. Its own certificates say something else.
#[test]
fn a11_the_certificate_of_an_authority_must_be_valid_when_it_issues() {
    let statement = statement();
    for (kept, entry) in FORMS {
        let form = certified(kept, entry);
        for certificate in [AuthorityCertificate::Root, AuthorityCertificate::Intermediate] {
            for (is_valid, from, until) in windows() {
                let world =
                    world(form, |builder| builder.certificate_valid_between(certificate, from, until));
                let signed = world.signing().sign(&statement);
                if is_valid {
                    world.admitted(&signed);
                    continue;
                }
                let words = "no authority of the trust root";
                denied(&world.judge(&signed), Reason::UntrustedSignature, words, &(form, certificate));
            }
        }
    }
}

#[test]
fn a11_the_certificates_of_a_timestamp_authority_must_be_valid_when_it_stamps() {
    let statement = statement();
    for (kept, entry) in
        [(V03, Some(EntryKind::HashedRekord002)), (V03, Some(EntryKind::Dsse002)), (V03, None)]
    {
        let form = certified(kept, entry);
        for certificate in [AuthorityCertificate::TimestampRoot, AuthorityCertificate::TimestampSigner] {
            for (is_valid, from, until) in windows() {
                let world =
                    world(form, |builder| builder.certificate_valid_between(certificate, from, until));
                let signed = world.signing().sign(&statement);
                if is_valid {
                    world.admitted(&signed);
                    continue;
                }
                let words = match certificate {
                    AuthorityCertificate::TimestampRoot => {
                        "is by an authority that the trust root does not know at that time"
                    }
                    _ => "its timestamp (RFC 3161) does not verify",
                };
                denied(&world.judge(&signed), Reason::UntrustedSignature, words, &(form, certificate));
            }
        }
    }
}

/// An authority alone has no window but its certificates'.
#[test]
fn a11_an_authority_alone_vouches_while_its_certificates_are_valid() {
    for (with_timestamps, part) in [
        (true, AuthorityCertificate::Root),
        (true, AuthorityCertificate::Intermediate),
        (true, AuthorityCertificate::TimestampRoot),
        (false, AuthorityCertificate::Root),
        (false, AuthorityCertificate::Intermediate),
    ] {
        for (is_valid, from, until) in windows() {
            let builder = Sigstore::builder().timestamps_only();
            let corp = builder.certificate_valid_between(part, from, until).build();
            let keeper = Keeper::new(Roots::public_good().unwrap());
            keeper.keep(&[authority("corp", &corp, ISSUERS[0], with_timestamps)]);
            let signed = corp.signing(&nameless()).sign(statement());
            let raw = crate::trust_support::bundle(signed.bundle_json(BundleVersion::V03).into_bytes());
            let verdict = judge(&keeper, &policy("corp", ISSUERS[0], PERSON), &raw);
            if is_valid {
                assert_eq!(verdict.outcome, Outcome::Allow, "{part:?}: {:?}", verdict.problems);
                continue;
            }
            let words = if part == AuthorityCertificate::TimestampRoot {
                "is by an authority that the trust root does not know at that time"
            } else {
                "no authority of the trust root corp"
            };
            denied(&verdict, Reason::UntrustedSignature, words, &(part, with_timestamps));
        }
    }
}

#[test]
fn c14_certificates_of_p_521_verify_in_every_form() {
    let statement = statement();
    for (kept, entry) in FORMS {
        for (leaf, issuer) in
            [(KeyKind::P521, KeyKind::P521), (KeyKind::P521, KeyKind::P384), (KeyKind::P256, KeyKind::P521)]
        {
            let form = certified(kept, entry);
            let world = world(form, |builder| builder.authority_keys(issuer));
            world.admitted(&world.signing().leaf(leaf).sign(&statement));
            for (defect, words) in [
                (Defect::SignatureInvalid, "its signature does not verify with the key of its certificate"),
                (Defect::PayloadSwapped, "its signature does not verify with the key of its certificate"),
                (Defect::CertificateSignatureInvalid, "does not chain to the trust root"),
                (Defect::ChainOfAnotherAuthority, "does not chain to the trust root"),
            ] {
                let forged = world.signing().leaf(leaf).defect(defect).sign(&statement);
                denied(
                    &world.judge(&forged),
                    Reason::UntrustedSignature,
                    words,
                    &(form, leaf, issuer, defect),
                );
            }
        }
    }
}

#[test]
fn c14_an_authority_alone_may_have_keys_of_p_521() {
    for with_timestamps in [true, false] {
        let corp = Sigstore::builder().timestamps_only().authority_keys(KeyKind::P521).build();
        let keeper = Keeper::new(Roots::public_good().unwrap());
        keeper.keep(&[authority("corp", &corp, ISSUERS[0], with_timestamps)]);
        let policy = policy("corp", ISSUERS[0], PERSON);
        let of = |signed: bonafide_kit::sigstore::Signed| {
            crate::trust_support::bundle(signed.bundle_json(BundleVersion::V03).into_bytes())
        };
        let signing = || corp.signing(&nameless()).leaf(KeyKind::P521);
        let verdict = judge(&keeper, &policy, &of(signing().sign(statement())));
        assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
        assert_eq!(verdict.proofs[0].trust_root, Some(TrustRootName("corp".to_owned())));
        let forged = of(signing().defect(Defect::SignatureInvalid).sign(statement()));
        let words = "its signature does not verify with the key of its certificate";
        denied(&judge(&keeper, &policy, &forged), Reason::UntrustedSignature, words, &with_timestamps);
    }
}
