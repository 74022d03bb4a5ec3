//! What these tests share.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// A folder that is gone when the test is over.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bonafide-http-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Puts files in place as Kubernetes mounts a Secret or `ConfigMap`: links to `..data`, a link that is swapped for all at once.
    pub fn mount(&self, version: &str, files: &[(&str, &str)]) {
        let real = self.join(&format!("..{version}"));
        fs::create_dir_all(&real).unwrap();
        for (name, text) in files {
            fs::write(real.join(name), text).unwrap();
            let link = self.join(name);
            if !link.exists() {
                let _ = fs::remove_file(&link);
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        let fresh = self.join("..data_tmp");
        symlink(format!("..{version}"), &fresh).unwrap();
        fs::rename(fresh, self.join("..data")).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
