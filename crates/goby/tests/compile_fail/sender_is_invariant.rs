// A channel of 'static values takes no shorter-lived ones: the receiver would keep them.
use goby::chan::{Sender, bounded};

fn send_local<'a>(tx: &Sender<&'a str>, text: &'a str) {
    let _ = tx.send(text);
}

fn main() {
    let (tx, rx) = bounded::<&'static str>(1);
    {
        let local = String::from("gone");
        send_local(&tx, &local);
    }
    println!("{:?}", rx.recv());
}
