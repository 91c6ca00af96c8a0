//! Lists the GPU tests as ignored where the tester says that there is no GPU
//! (`SONOGRAD_TEST_GPU=none`): a test cannot ignore itself once it runs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SONOGRAD_TEST_GPU");
    println!("cargo::rustc-check-cfg=cfg(no_test_gpu)");
    if std::env::var("SONOGRAD_TEST_GPU").is_ok_and(|value| value == "none") {
        println!("cargo::rustc-cfg=no_test_gpu");
    }
}
