// Only senders close a channel.
fn main() {
    let (_tx, rx) = goby::chan::bounded::<i32>(1);
    rx.close();
}
