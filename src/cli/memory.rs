//! The memory that the process may use.

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

/// The part of it that keys and values may take: weights, histories, and whoever else lives on the machine need room, too.
const CACHE_SHARE: u64 = 4;
/// What they may take where nothing is known.
const CACHE_BYTES_DEFAULT: usize = 1 << 30;

/// Bytes that this process may use: the machine's, or what its control groups (a container's, a service's) leave of it. `None` where
/// neither is known, as where /proc/meminfo is hidden.
pub fn usable_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = Some(system.total_memory());
    let limit = get_current_pid().ok().and_then(|pid| {
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, ProcessRefreshKind::nothing());
        system.process(pid)?.cgroup_limits()
    });
    // Of a group without a limit, the total is the machine's.
    [machine, limit.map(|limit| limit.total_memory)].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

/// Bytes of it for keys and values.
pub fn for_caches(usable: Option<u64>) -> usize {
    usable.map_or(CACHE_BYTES_DEFAULT, |bytes| usize::try_from(bytes / CACHE_SHARE).unwrap_or(usize::MAX))
}
