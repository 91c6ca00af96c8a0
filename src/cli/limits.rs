//! Limits that the system sets a process.

/// Lets a write fail that would make a file larger than the system allows
/// (`ulimit -f`), as one on a full disk does; by itself Linux ends the program in
/// the middle of it.
pub(super) fn refuse_too_large_files() {
    // SAFETY: the signal is ignored from here on; no handler of ours runs.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
