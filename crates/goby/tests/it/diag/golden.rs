//! The dump's text against a golden file, without the parts that depend on lines and compilers.
//! `GOBY_BLESS=1` renews the file; read it before you keep it.

use goby::sync::Mutex;
use goby::{Runtime, chan, diag, go, goroutine};

use crate::support::wait_until;
use goby_test_support::in_child;

#[inline(never)]
fn consumer(jobs: &chan::Receiver<u32>) {
    while jobs.recv().is_ok() {}
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "line tables alone give inlined functions no path")]
fn the_text_of_a_dump() {
    let output = in_child("diag::golden::the_text_of_a_dump", || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let (tx, rx) = chan::bounded(0);
            for _ in 0..12 {
                let rx = rx.clone();
                go(move || consumer(&rx));
            }
            goroutine::Builder::new().name("locker").label("shard", "3").label("kind", "a").go(|| {
                let mutex = Mutex::new(());
                let _held = mutex.lock();
                drop(mutex.lock());
            });
            wait_until("all to wait", || diag::goroutines().iter().filter(|g| g.waited().is_some()).count() == 13);
            go(|| ());
            print!("<<<{}>>>", diag::dump());
            drop(tx);
        });
    });
    let stdout = String::from_utf8(output.stdout).unwrap();
    let text = stdout.split("<<<").nth(1).and_then(|rest| rest.split(">>>").next()).expect("a dump");
    let text = text.lines().map(settled).collect::<String>();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/diag/dump.txt");
    if std::env::var_os("GOBY_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    assert_eq!(text, expected, "the dump's text has changed: see GOBY_BLESS\n{text}");
}

/// Returns a line without the number behind a file's name, and with names of functions in one of
/// the forms that compilers give them: `<goby::chan::Receiver<u32>>::recv` and `f::{closure#0}`, or
/// `goby::chan::Receiver<T>::recv` and `f::{{closure}}`.
fn settled(line: &str) -> String {
    if let Some((file, _)) = line.split_once(".rs:") {
        return format!("{file}.rs:LINE\n");
    }
    let name = line.strip_prefix('<').unwrap_or(line);
    let name = match (name.find('<'), name.rfind('>')) {
        (Some(open), Some(close)) => format!("{}{}", &name[..open], &name[close + 1..]),
        _ => name.to_owned(),
    };
    ["{{closure}}", "{closure#0}", "{closure#1}"].iter().fold(name, |name, form| name.replace(form, "{closure}")) + "\n"
}
