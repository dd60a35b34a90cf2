//! File handles: each connection takes one, and so does each file of the store.
//!
//! Without a handle the store cannot go on to its next journal, which is final for it. So the
//! connections leave it enough, however low the limit of the process is.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Handles that connections leave to everything else: up to 512 tables that the engine keeps open,
/// journals, listeners, certificates, connections to databases.
const RESERVED: u64 = 768;

/// Raises the limit of this process as far as it may itself, and returns how many of `wanted`
/// connections fit below it.
pub(crate) fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of file handles stays as it is");
        }
    }
    // `None` is no limit.
    let Some(handles) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let fitting = fitting(wanted, handles);
    if fitting < wanted {
        tracing::warn!(
            handles,
            connections = fitting,
            "the limit of file handles leaves room for {fitting} connections instead of {wanted}; \
             raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    fitting
}

/// Half of the handles at least: a limit that low keeps only small stores open anyway.
fn fitting(wanted: usize, handles: u64) -> usize {
    let room = handles.saturating_sub(RESERVED).max(handles / 2).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_handles_to_the_store() {
        for (handles, room) in [
            (1 << 20, 4_096),
            (4_864, 4_096),
            (4_863, 4_095),
            (1_024, 512),
            (1, 1),
        ] {
            assert_eq!(fitting(4_096, handles), room, "{handles}");
        }
    }
}
