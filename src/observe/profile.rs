//! Takes profiles in pprof format, as `go tool pprof` reads them: where CPU time goes, and who holds memory.

mod cpu;
mod heap;
mod pprof;
mod sampler;
mod slots;

use std::path::PathBuf;

pub use cpu::{Busy, CpuProfile};
pub use heap::{
    activate as activate_heap, deactivate as deactivate_heap, dump as dump_heap, is_active as is_heap_active,
};

/// The profiles that `-cpuprofile` and `-memprofile` ask for, from start to exit.
#[derive(Debug)]
pub struct Profiles {
    cpu: Option<(PathBuf, CpuProfile)>,
    heap: Option<PathBuf>,
}

/// Why a profile could not be taken or written.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file that the profile goes to cannot be written.
    #[error("-{flag} {}: {error}", .file.display())]
    File {
        /// The flag's name, without its dash.
        flag: &'static str,
        /// The file that the flag names.
        file: PathBuf,
        /// The kernel's error.
        error: std::io::Error,
    },
    /// The CPU profile cannot be taken.
    #[error("-cpuprofile: {0}")]
    Cpu(#[from] Busy),
    /// The heap profile cannot be taken.
    #[error("-memprofile: {0}")]
    Heap(String),
}

impl Profiles {
    /// Makes the files, so that a wrong path is noticed before the work is done, and begins to sample allocations.
    ///
    /// # Errors
    /// [`ProfileError`] names the flag.
    pub fn prepare(cpu: Option<&PathBuf>, heap: Option<&PathBuf>) -> Result<(), ProfileError> {
        for (flag, file) in [("cpuprofile", cpu), ("memprofile", heap)] {
            if let Some(file) = file {
                std::fs::File::create(file).map_err(|error| ProfileError::File {
                    flag,
                    file: file.clone(),
                    error,
                })?;
            }
        }
        if heap.is_some() {
            heap::activate().map_err(ProfileError::Heap)?;
        }
        Ok(())
    }

    /// Begins the CPU profile. Not before the shards have their own descriptor tables: while those are made, nobody
    /// else may open or close a descriptor, and a profile's thread reads `/proc`.
    ///
    /// # Errors
    /// [`ProfileError`] names the flag.
    pub fn start(cpu: Option<PathBuf>, heap: Option<PathBuf>) -> Result<Self, ProfileError> {
        let cpu = match cpu {
            Some(file) => Some((file, CpuProfile::start()?)),
            None => None,
        };
        Ok(Self { cpu, heap })
    }

    /// Writes what there is so far, and goes on.
    ///
    /// # Errors
    /// [`ProfileError`]; the other profile is tried all the same.
    pub fn write(&self) -> Result<Vec<PathBuf>, ProfileError> {
        let mut written = Vec::new();
        let cpu = self
            .cpu
            .as_ref()
            .map(|(file, profile)| write("cpuprofile", file, &profile.encode()));
        let heap = self.heap.as_ref().map(|file| {
            let profile = heap::dump().map_err(ProfileError::Heap)?;
            write("memprofile", file, &profile)
        });
        for result in [cpu, heap].into_iter().flatten() {
            written.push(result?);
        }
        Ok(written)
    }
}

fn write(flag: &'static str, file: &PathBuf, bytes: &[u8]) -> Result<PathBuf, ProfileError> {
    match std::fs::write(file, bytes) {
        Ok(()) => Ok(file.clone()),
        Err(error) => Err(ProfileError::File {
            flag,
            file: file.clone(),
            error,
        }),
    }
}
