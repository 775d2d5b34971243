//! Leaves a mark while the server runs, so that the next start can say that the end before was none: SIGKILL, a power
//! failure, a shard that broke. It lies in the directory that the service manager gives (STATE_DIRECTORY,
//! systemd.exec(5)); without one there is no mark.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::{Pid, test_kill_process};

/// The mark of this process, if it has left one.
#[derive(Debug)]
pub struct RunMark(Option<PathBuf>);

impl RunMark {
    /// Leaves the mark, and says in words what an earlier process has left that has not ended in order.
    #[must_use]
    pub fn leave() -> (Self, Option<String>) {
        let directories = std::env::var_os("STATE_DIRECTORY").unwrap_or_default();
        // Several are separated by colons; the first is as good as another.
        let first = directories.as_bytes().split(|byte| *byte == b':').next();
        match first.filter(|directory| !directory.is_empty()) {
            Some(directory) => Self::leave_in(Path::new(OsStr::from_bytes(directory)), std::process::id()),
            None => (Self(None), None),
        }
    }

    fn leave_in(directory: &Path, own: u32) -> (Self, Option<String>) {
        let path = directory.join(NAME);
        let before = fs::read_to_string(&path).ok().and_then(|text| unclean(&text));
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        match fs::write(&path, format!("{own} {now}\n")) {
            Ok(()) => (Self(Some(path)), before),
            Err(error) => {
                tracing::warn!("{}: {error}: an unclean end will not be noticed", path.display());
                (Self(None), before)
            }
        }
    }

    /// The end is in order.
    pub fn wipe(self) {
        if let Some(path) = self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a mark says that was left behind; nothing if its process still runs beside this one.
fn unclean(text: &str) -> Option<String> {
    let (pid, since) = text.trim().split_once(' ')?;
    let number: i32 = pid.parse().ok()?;
    let runs = Pid::from_raw(number).is_some_and(|pid| test_kill_process(pid).is_ok());
    (!runs).then(|| {
        let since: String = since.chars().filter(|char| char.is_ascii_graphic()).take(SINCE_LEN_MAX).collect();
        format!(
            "the end before was unclean: process {number}, which served since {since}, was killed or broke. Its clients were cut off, \
             and pushes that it had accepted may have had no outcome"
        )
    })
}

const NAME: &str = "running";
/// Of a date in RFC 3339.
const SINCE_LEN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_is_left_behind_is_told_once_wiped_it_is_not() {
        let directory = std::env::temp_dir().join(format!("ws2api-run-mark-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        // No process has this number: it is above pid_max.
        let gone = 1 << 30;
        let (first, before) = RunMark::leave_in(&directory, gone);
        assert_eq!(before, None);
        drop(first);
        let (second, before) = RunMark::leave_in(&directory, std::process::id());
        assert!(before.is_some_and(|words| words.contains("process 1073741824, which served since 2")));
        // This process runs.
        assert_eq!(RunMark::leave_in(&directory, gone).1, None);
        second.wipe();
        assert_eq!(RunMark::leave_in(&directory, gone).1, None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_no_mark_says_nothing() {
        for text in ["", "x", "x y", "99999999999 y", "-5"] {
            assert_eq!(unclean(text), None, "{text:?}");
        }
    }
}
