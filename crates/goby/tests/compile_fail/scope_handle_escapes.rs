// A handle of a scope stays in it.
fn main() {
    let text = String::from("borrowed");
    let handle = goby::scope(|s| s.go(|| text.len()));
    let _ = handle.join();
}
