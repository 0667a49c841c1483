// The result of a select borrows the channel that it came from.
use goby::chan::bounded;
use goby::chan::Select;

fn main() {
    let selected;
    {
        let (_tx, rx) = bounded::<i32>(1);
        let mut select = Select::new();
        select.recv(&rx);
        selected = select.try_select();
    }
    drop(selected);
}
