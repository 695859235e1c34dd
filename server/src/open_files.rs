//! How many files the process may have open: each connection is one.
//!
//! The soft limit is mostly 1,024, for the sake of programs that use select(2); a process that does not may raise it to the
//! hard one (setrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are kept for others than clients: connections to Postgres, the project's files, the log. A client that
/// takes the last one would keep the engine from the database.
const RESERVED: usize = 128;

/// Raises the soft limit to the hard one, as far as that is possible.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where it is refused, fewer connections are taken.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Returns how many connections of clients there may be at once.
pub fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(RESERVED).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert!(connections_max() > 100);
    }
}
