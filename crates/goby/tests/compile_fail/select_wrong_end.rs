// A receive takes a receiver.
use goby::chan::bounded;
use goby::select;

fn main() {
    let (tx, _rx) = bounded::<i32>(1);
    select! {
        recv(tx) -> _ => {}
    }
}
