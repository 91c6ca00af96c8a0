//! Lists tests as ignored where the tester says that what they need is not
//! there (`SONOGRAD_TEST_GPU=none`, `SONOGRAD_TEST_PAGE=none`), or does not say
//! where it is (`SONOGRAD_TEST_REAL`): a test cannot ignore itself once it runs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (variable, cfg) in [
        ("SONOGRAD_TEST_GPU", "no_test_gpu"),
        ("SONOGRAD_TEST_PAGE", "no_test_page"),
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if std::env::var(variable).is_ok_and(|value| value == "none") {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
    let real = "SONOGRAD_TEST_REAL";
    println!("cargo::rerun-if-env-changed={real}");
    println!("cargo::rustc-check-cfg=cfg(no_real_files)");
    if std::env::var(real).is_ok_and(|folder| std::path::Path::new(&folder).is_dir()) {
        return;
    }
    println!("cargo::rustc-cfg=no_real_files");
}
