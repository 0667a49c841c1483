// What a goroutine of a scope borrows must outlive the scope.
fn main() {
    goby::scope(|s| {
        let text = String::from("gone when the closure returns");
        s.go(|| println!("{text}"));
    });
}
