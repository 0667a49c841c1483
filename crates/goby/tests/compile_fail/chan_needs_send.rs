// A channel of values that stay on their thread stays there, too.
use std::rc::Rc;

fn main() {
    let (tx, rx) = goby::chan::bounded::<Rc<i32>>(1);
    goby::go(move || tx.send(Rc::new(1)));
    let _ = rx.recv();
}
