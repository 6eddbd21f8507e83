//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many as the system allows at most: the files of a model stay open
/// from the check of the first to the load of the last, and the usual limit of
/// 1024 is for programs that wait with `select`.
pub(crate) fn allow_all() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it is refused the limit stays, and the error that follows names it.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
