//! Runs the example `reqwest` as its user would, against nginx.

#[path = "../src/servers.rs"]
#[allow(dead_code)]
mod servers;

use std::process::{Command, Output};

fn fetch(site: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reqwest")).arg(site).output().unwrap()
}

#[test]
fn a_thousand_pages() {
    let server = servers::nginx();
    let done = fetch(&format!("http://{}", server.addr));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // The page N is N itself.
    assert_eq!(String::from_utf8_lossy(&done.stdout), "1000 pages, 2890 bytes\n");

    let failed = fetch(&format!("http://{}/nothing/here", server.addr));
    assert!(!failed.status.success());
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert!(stderr.contains("404"), "{stderr}");
}
