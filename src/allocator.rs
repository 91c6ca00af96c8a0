//! What is asked of the system's allocator.

/// Has large blocks of memory mapped one by one for as long as the process
/// lasts, so that they go back to the system when they are freed.
///
/// With every larger block that is freed, glibc raises the size from which it
/// does so, up to 32 MiB; blocks below come out of heaps, in which sounds of
/// ever new lengths leave holes. The program calls this first; a library that
/// explains many sounds in one process may want it, too (docs/robustness.md has
/// what it is worth). Elsewhere than on glibc it does nothing.
pub fn map_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// glibc's own beginning.
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: it sets a number of the allocator under the allocator's lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
