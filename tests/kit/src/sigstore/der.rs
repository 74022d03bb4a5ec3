//! A DER writer of a few lines. It writes what it is told, well-formed or not in meaning: a library
//! that refuses a wrong certificate could not make the wrong certificates that tests need.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const UTF8_STRING: u8 = 0x0c;

/// One element: tag, length, contents.
pub(super) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = contents.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap());
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | u8::try_from(bytes.len()).unwrap());
        out.extend(bytes);
    }
    out.extend_from_slice(contents);
    out
}

/// A SEQUENCE of the parts, each of them DER already.
pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// A SET OF, in the order DER asks for.
pub(super) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(SET, &parts.concat())
}

/// `[number]` constructed: an explicit tag, or an implicit one over a constructed type's contents.
pub(super) fn context(number: u8, contents: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, contents)
}

/// `[number]` primitive: an implicit tag over a primitive type's contents.
pub(super) fn context_primitive(number: u8, contents: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, contents)
}

/// A non-negative INTEGER of these big-endian bytes.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    let mut contents: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if contents.first().is_none_or(|byte| byte & 0x80 != 0) {
        contents.insert(0, 0);
    }
    tlv(0x02, &contents)
}

/// BOOLEAN TRUE.
pub(super) fn true_value() -> Vec<u8> {
    tlv(0x01, &[0xff])
}

/// NULL.
pub(super) fn null() -> Vec<u8> {
    tlv(0x05, &[])
}

/// A BIT STRING of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes].concat())
}

/// An OBJECT IDENTIFIER from its dotted form.
pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut contents = Vec::new();
    push_base128(&mut contents, arcs[0] * 40 + arcs[1]);
    arcs[2..].iter().for_each(|arc| push_base128(&mut contents, *arc));
    tlv(0x06, &contents)
}

fn push_base128(out: &mut Vec<u8>, value: u64) {
    let groups = (64 - value.leading_zeros()).max(1).div_ceil(7);
    for group in (0..groups).rev() {
        let bits = u8::try_from((value >> (group * 7)) & 0x7f).unwrap();
        out.push(if group == 0 { bits } else { bits | 0x80 });
    }
}

/// The `Time` of X.509: `UTCTime` until 2049, `GeneralizedTime` after.
pub(super) fn time(at: Timestamp) -> Vec<u8> {
    if at.to_zoned(TimeZone::UTC).year() < 2050 {
        tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        generalized_time(at)
    }
}

/// A `GeneralizedTime` of whole seconds.
pub(super) fn generalized_time(at: Timestamp) -> Vec<u8> {
    tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
}

/// An element as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
    /// With its tag and length.
    pub(super) whole: &'a [u8],
}

/// The elements that stand one after the other; `None` where they do not fill the bytes.
pub(super) fn elements(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while let [tag, short, rest @ ..] = bytes {
        let (length, rest) = if *short < 0x80 {
            (usize::from(*short), rest)
        } else {
            let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f).min(4))?;
            (long.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        };
        let (contents, after) = rest.split_at_checked(length)?;
        found.push(Element { tag: *tag, contents, whole: &bytes[..bytes.len() - after.len()] });
        bytes = after;
    }
    bytes.is_empty().then_some(found)
}

/// The elements within a SEQUENCE.
pub(super) fn within_sequence(bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    match elements(bytes)?.as_slice() {
        [sequence] if sequence.tag == SEQUENCE => elements(sequence.contents),
        _ => None,
    }
}
