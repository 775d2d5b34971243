//! Writes files that the program reads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// One with a text; gone when it is dropped.
#[derive(Debug)]
pub struct TextFile(PathBuf);

impl TextFile {
    pub fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ws2api-text-{}-{number}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.set(text);
        super::open_to_all(&file.0);
        file
    }

    /// From now on it has this text.
    pub fn set(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its path, as a value of the configuration.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
