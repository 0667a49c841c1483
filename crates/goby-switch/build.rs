//! Tells the crate that it is built under ThreadSanitizer.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(goby_tsan)");
    let sanitizers = std::env::var("CARGO_CFG_SANITIZE").unwrap_or_default();
    if sanitizers.split(',').any(|s| s == "thread") {
        println!("cargo::rustc-cfg=goby_tsan");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
