//! Manifests and indexes, whatever a registry answers with.

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind, Root},
        platform::{EntryKind, IndexEntry, Platform, all_images, candidates},
        reference::{Reference, Repository},
    },
    gather::{
        image::root,
        lanes::{Room, Stop},
        ports::{Attestations, Images, Manifest, Referrer},
    },
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

/// A registry that has one of these documents for every digest. What a digest has to do with its bytes is checked before.
struct Answers(Vec<Bytes>);

impl Answers {
    fn of(&self, digest: &Digest) -> Bytes {
        let at = digest.bytes().first().map_or(0, |byte| usize::from(*byte));
        self.0[at % self.0.len()].clone()
    }
}

impl Images for Answers {
    fn resolve<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<Digest, FetchError>> {
        futures::future::ready(Ok(Digest::of(&self.0[0]))).boxed()
    }

    fn manifest<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, FetchError>> {
        let manifest = Manifest { digest: *digest, media_type: String::new(), bytes: self.of(digest) };
        futures::future::ready(Ok(manifest)).boxed()
    }

    fn blob<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
        _: usize,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        futures::future::ready(Ok(self.of(digest))).boxed()
    }
}

impl Attestations for Answers {
    fn referrers<'a>(
        &'a self,
        _: &'a Repository,
        _: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Referrer>, FetchError>> {
        futures::future::ready(Ok(Vec::new())).boxed()
    }

    fn tagged<'a>(
        &'a self,
        _: &'a Repository,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, FetchError>> {
        futures::future::ready(Ok(None)).boxed()
    }
}

/// What a document is by itself.
pub fn root_of(document: &[u8]) -> Result<Root, Stop> {
    let answers = Answers(vec![Bytes::copy_from_slice(document)]);
    let repository: Repository = "registry.example/app".parse().expect("a repository");
    let read = root(&answers, &repository, Digest::sha256([0; 32]), Room::LARGEST);
    read.now_or_never().expect("nothing is waited for")
}

/// What is picked for a platform is in the index; an index has so many entries and no more; what is read is read the same again.
/// The documents stand behind each other, with a zero between.
pub fn manifest_and_index(data: &[u8]) {
    let documents: Vec<Bytes> = data.split(|byte| *byte == 0).take(256).map(Bytes::copy_from_slice).collect();
    let answers = Answers(documents);
    let repository: Repository = "registry.example/app".parse().expect("a repository");
    let read = || {
        let first = Digest::sha256([0; 32]);
        let read = root(&answers, &repository, first, Room::LARGEST);
        read.now_or_never().expect("nothing is waited for")
    };
    let found = match read() {
        Ok(Root::Index(entries)) => entries,
        Ok(Root::Manifest(_)) => {
            return assert!(std::str::from_utf8(&answers.of(&Digest::sha256([0; 32]))).is_ok());
        }
        Err(Stop::TooSmall) => return,
        Err(Stop::Failed(error)) => {
            assert_eq!(error.kind, FetchErrorKind::Malformed);
            return assert!(!error.detail.is_empty());
        }
    };
    assert!(matches!(read(), Ok(Root::Index(again)) if again == found));
    // Runtimes put other characters in the place of what is not UTF-8, also in keys.
    assert!(std::str::from_utf8(&answers.of(&Digest::sha256([0; 32]))).is_ok());
    let mut digests = Vec::new();
    collect(&found, &mut digests);
    assert!(digests.len() <= 256);
    let stands_there =
        |text: &str| data.windows(text.len()).any(|bytes| bytes.eq_ignore_ascii_case(text.as_bytes()));
    // JSON may write any character as a number.
    assert!(digests.iter().all(|digest| stands_there(&digest.hex()) || stands_there("\\u")));
    let all = all_images(&found);
    assert!(all.iter().all(|image| digests.contains(&image.digest)));
    for platform in ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"] {
        let platform: Platform = platform.parse().expect("a platform");
        for candidate in candidates(&platform, &found) {
            assert!(all.contains(&candidate), "{candidate:?} is not in the index");
        }
    }
}

fn collect(entries: &[IndexEntry], digests: &mut Vec<Digest>) {
    for entry in entries {
        digests.push(entry.digest);
        if let EntryKind::Index(nested) = &entry.kind {
            collect(nested, digests);
        }
    }
}
