//! Reading files that somebody may replace at any moment: an editor, a script, or Kubernetes, which swaps one symlink (`..data`) for
//! a whole folder at once.
//!
//! Metadata only ever saves work here: what decides that something changed is the content.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How deep folders are walked.
const MAX_DEPTH: usize = 8;
/// How young a file may be before its metadata is trusted to tell a change: file systems' clocks are coarse.
const TRUSTED_AGE: Duration = Duration::from_secs(2);

/// A file's identity and times, following symlinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0).map_or(UNIX_EPOCH, |seconds| {
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
        });
        now.duration_since(changed).is_ok_and(|age| age > TRUSTED_AGE)
    }
}

/// Whether stamps that are the same now as before mean that the content is the same.
pub fn are_settled(stamps: &[Stamp]) -> bool {
    let now = SystemTime::now();
    stamps.iter().all(|stamp| stamp.is_settled(now))
}

/// The files under `root` (or `root` itself, where it is one) with one of `extensions`, in order, at most `limit`.
///
/// Hidden ones are left out: so are Kubernetes' `..data` and the folders behind it, whose files are listed by their links.
///
/// # Errors
/// A folder that cannot be listed, or more files than the limit.
pub fn list(root: &Path, extensions: &[&str], limit: usize) -> io::Result<Vec<Stamp>> {
    if fs::metadata(root)?.is_file() {
        return Ok(vec![Stamp::of(root)?]);
    }
    let mut found = Vec::new();
    walk(root, extensions, limit, MAX_DEPTH, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(
    folder: &Path,
    extensions: &[&str],
    limit: usize,
    depth: usize,
    found: &mut Vec<Stamp>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        let fits = || path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e));
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            if depth == 0 {
                return Err(io::Error::other(format!("{} is nested too deep", path.display())));
            }
            walk(&path, extensions, limit, depth.saturating_sub(1), found)?;
        } else if fits() {
            if found.len() >= limit {
                return Err(io::Error::other(format!("more than {limit} files")));
            }
            found.push(Stamp::of(&path)?);
        }
    }
    Ok(())
}

/// A file's content, at most `limit` bytes of it.
///
/// # Errors
/// A file that cannot be read, or is longer.
pub fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Writes a file so that whoever reads it sees all of it or nothing.
///
/// # Errors
/// A folder that cannot be written to.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.tmp", std::process::id()));
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}
