//! Pins the calling thread to a CPU.

/// Pins the calling thread to `cpu`. False when the kernel refuses (the CPU is offline or outside the cpuset).
#[must_use]
pub fn pin(cpu: usize) -> bool {
    // The library's set has room for 1,024 CPUs (cpu_set_t) and panics beyond.
    cpu < CPUS_MAX && core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

const CPUS_MAX: usize = 1024;
