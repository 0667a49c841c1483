// A select borrows the channels of its cases, and so does what it selected.
use goby::chan::{Select, bounded};

fn main() {
    let mut select = Select::new();
    let selected = {
        let (_tx, rx) = bounded::<i32>(1);
        select.recv(&rx);
        select.try_select()
    };
    drop(selected);
}
