// A goroutine may run on another thread than the one that starts it.
use std::rc::Rc;

fn main() {
    let shared = Rc::new(1);
    goby::go(move || println!("{shared}"));
}
