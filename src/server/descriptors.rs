//! Computes how many consumer connections the file descriptor limit allows.

use rustix::process::{Resource, getrlimit};

/// File descriptors reserved for the process itself: the trail, the store, sinks, and the admin listener's connections.
const RESERVE: u64 = 128;
/// File descriptors reserved for each worker: its sockets, and connections that are about to end.
const EACH_WORKER: u64 = 32;

/// Returns how many consumer connections this process can hold besides everything else that it opens.
pub(super) fn room(workers: usize) -> usize {
    max_connections(getrlimit(Resource::Nofile).current, workers)
}

/// Computes the number of connections from the limit of open files; `None` means no limit. Each connection may need a
/// second descriptor, to an upstream. The reserve is at most half, so that a low limit still serves some connections.
fn max_connections(files: Option<u64>, workers: usize) -> usize {
    let Some(files) = files else { return usize::MAX };
    let workers = u64::try_from(workers).unwrap_or(u64::MAX);
    let reserve = EACH_WORKER.saturating_mul(workers).saturating_add(RESERVE).min(files / 2);
    usize::try_from((files - reserve) / 2).unwrap_or(usize::MAX).max(1)
}

/// Logs a warning if the configuration allows more connections than the descriptors do.
pub(super) fn warn_of(connections: usize, room: usize) {
    if connections > room {
        tracing::warn!(
            connections,
            room,
            "the limit of open files allows fewer connections than `[limits] connections`: raise the limit of open \
             files (LimitNOFILE= of a systemd unit, `--ulimit nofile=` of a container, `ulimit -n`) to more than \
             twice as many, or lower `connections`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_all_else() {
        assert_eq!(max_connections(None, 4), usize::MAX);
        assert_eq!(max_connections(Some(65_536), 4), (65_536 - 256) / 2);
        assert_eq!(max_connections(Some(1024), 2), (1024 - 192) / 2);
        assert_eq!(max_connections(Some(256), 2), 64, "the reserve is half of few");
        assert_eq!(max_connections(Some(1024), 64), 256);
        assert_eq!((max_connections(Some(1), 1), max_connections(Some(0), usize::MAX)), (1, 1));
    }
}
