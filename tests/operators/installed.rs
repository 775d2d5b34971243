//! Installs the program where a test may exchange it, as a package manager does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use support::open_to_all;

/// A directory with a copy of the program, which a test may exchange.
pub(crate) struct Installed(pub(crate) PathBuf);

impl Installed {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "{}-installed-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        open_to_all(&directory);
        let installed = Self(directory);
        // A link costs no room.
        fs::hard_link(support::program::path(), installed.program()).unwrap();
        installed
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.0.join("ws2api")
    }

    /// As a package manager does: another file takes the place of the one that runs.
    pub(crate) fn exchange(&self, script: &str) {
        let file = self.0.join("new");
        fs::write(&file, script).unwrap();
        executable(&file);
        fs::rename(file, self.program()).unwrap();
    }

    /// The next new process is a test that plays one up to that step.
    pub(crate) fn exchange_for_step(&self, step: &str) {
        let exe = std::env::current_exe().unwrap();
        self.exchange(&format!(
            "#!/bin/sh\nSTEP={step} exec {} --exact upgrade_played::the_new_process_of_a_test --ignored --nocapture 1>&2\n",
            exe.display()
        ));
    }

    /// The program that runs is there again.
    pub(crate) fn restore(&self) {
        fs::remove_file(self.program()).unwrap();
        fs::hard_link(support::program::path(), self.program()).unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        open_to_all(&file);
        file.to_str().unwrap().to_owned()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
