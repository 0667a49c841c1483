// A refused value is inside the error, not instead of it.
fn main() {
    let (tx, _rx) = goby::chan::bounded::<String>(1);
    let back: String = tx.send(String::from("a")).unwrap_err();
    drop(back);
}
