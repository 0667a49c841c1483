// A mistake in the syntax is told in words.
use goby::chan::bounded;
use goby::select;

fn main() {
    let (_tx, rx) = bounded::<i32>(1);
    select! {
        receive(rx) -> _ => {}
    }
}
