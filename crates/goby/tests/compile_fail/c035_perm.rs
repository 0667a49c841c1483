// Conformance 35: neither end becomes the other.
use goby::chan::{Receiver, Sender, bounded};

fn main() {
    let (tx, rx) = bounded::<i32>(1);
    let _: Sender<i32> = Sender::from(rx);
    let _: Receiver<i32> = Receiver::from(tx);
}
