// A goroutine may outlive the function that starts it; `scope` is for borrowing.
fn main() {
    let text = String::from("gone");
    goby::go(|| println!("{text}"));
}
