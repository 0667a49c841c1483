// There is one way out when nothing is ready.
use goby::select;

fn main() {
    select! {
        default => {}
        default => {}
    }
}
