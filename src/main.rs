//! The program: parses, runs, prints errors on one line, sets the exit code.

use std::process::ExitCode;

use sonograd::allocator::Keeping;

#[global_allocator]
static MEMORY: Keeping = Keeping::new();

fn main() -> ExitCode {
    MEMORY.map_large_blocks();
    sonograd::cli::main()
}
