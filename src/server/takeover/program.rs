//! Remembers how this process was started, and starts the program that is at the same path now.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// At the start: later there may be another file at the path, and the kernel calls the old one deleted.
    ///
    /// # Errors
    /// When the path can't be found out.
    pub fn remember() -> io::Result<Self> {
        let running = std::env::current_exe()?;
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let typed = arguments.first().and_then(|name| typed_path(Path::new(name), &running));
        Ok(Self {
            path: typed.unwrap_or(running),
            arguments,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts what is there now, with the same arguments, environment, directory and outputs; `channel` is its standard input.
    ///
    /// # Errors
    /// When there is nothing that can be started.
    pub(super) fn start(&self, channel: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        if let [name, arguments @ ..] = &self.arguments[..] {
            command.arg0(name).args(arguments);
        }
        // Those that the service manager has passed to this process come by the channel.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        command.env(VARIABLE, std::process::id().to_string());
        command.stdin(channel).spawn()
        // The command's own copy of the channel is closed here: the end of the new process is the end of the channel.
    }
}

/// True in a process that was started to take over from its parent.
#[must_use]
pub(super) fn is_started_to_take_over() -> bool {
    let parent = std::os::unix::process::parent_id().to_string();
    // One that was meant for another process is passed on to all that it starts.
    std::env::var_os(VARIABLE).is_some_and(|value| value.as_bytes() == parent.as_bytes())
}

/// As it was typed, with links unresolved: the link may lead to another version later. Unless that is another file than the one
/// that runs, say where a shell has looked it up.
fn typed_path(name: &Path, running: &Path) -> Option<PathBuf> {
    let is_path = name.as_os_str().as_bytes().contains(&b'/');
    let path = is_path.then(|| std::path::absolute(name).ok()).flatten()?;
    let [typed, running] = [&*path, running].map(|path| path.metadata().map(|found| (found.dev(), found.ino())).ok());
    (typed.is_some() && typed == running).then_some(path)
}

const VARIABLE: &str = "WS2API_TAKES_OVER_FROM";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_anew_each_time_and_a_name_that_is_no_path_is_looked_up_by_the_kernel() {
        let directory = std::env::temp_dir().join(format!("ws2api-program-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (file, other, link) = (directory.join("1.0"), directory.join("2.0"), directory.join("current"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(typed_path(&link, &file), Some(link.clone()));
        assert_eq!(typed_path(&other, &file), None);
        assert_eq!(typed_path(Path::new("ws2api"), &file), None);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
