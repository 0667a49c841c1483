// The result of a goroutine comes out on the thread that joins it.
use std::rc::Rc;

fn main() {
    let _ = goby::go(|| Rc::new(1)).join();
}
