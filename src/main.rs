//! The program: parses, runs, prints errors on one line, sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sonograd::allocator::map_large_blocks();
    sonograd::cli::main()
}
