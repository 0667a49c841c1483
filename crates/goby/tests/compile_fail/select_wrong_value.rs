// A send takes a value of the channel's type.
use goby::chan::bounded;
use goby::select;

fn main() {
    let (tx, _rx) = bounded::<i32>(1);
    select! {
        send(tx, "text") -> _ => {}
    }
}
