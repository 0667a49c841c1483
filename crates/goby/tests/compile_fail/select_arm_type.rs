// A receive gives a `Result`; the arms of a select have one type.
use goby::chan::bounded;
use goby::select;

fn main() {
    let (_tx, rx) = bounded::<i32>(1);
    let _: i32 = select! {
        recv(rx) -> value => value,
        default => 0,
    };
}
