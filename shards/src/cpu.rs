//! Which CPUs this process may use, and pinning to one of them.

/// The CPUs this process may run on, ascending. Read it before the calling thread is pinned: the kernel answers
/// for the calling thread only, and a pinned one sees a single CPU.
#[must_use]
pub fn usable() -> Vec<usize> {
    let mut cpus: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    cpus.sort_unstable();
    cpus
}

/// Pins the calling thread to `cpu`. False when the kernel refuses (the CPU is offline or outside the cpuset).
#[must_use]
pub fn pin(cpu: usize) -> bool {
    // The library's set has room for 1,024 CPUs (cpu_set_t) and panics beyond.
    cpu < CPUS_MAX && core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

const CPUS_MAX: usize = 1024;
