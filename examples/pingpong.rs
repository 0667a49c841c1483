//! Ping-pong: two goroutines pass one ball over a rendezvous channel.
//!
//! In Go:
//!
//! ```go
//! func player(name string, table chan int, wg *sync.WaitGroup) {
//!     defer wg.Done()
//!     for hits := range table {
//!         if hits == 10 {
//!             close(table)
//!             return
//!         }
//!         fmt.Println(name, hits+1)
//!         table <- hits + 1
//!     }
//! }
//! ```
//!
//! In Rust each player owns its two ends, and leaves by dropping them.

use goby::chan::{self, Receiver, Sender};
use goby::scope;

fn player(name: &str, ball: Receiver<u32>, other: Sender<u32>) {
    for hits in ball {
        if hits == 10 {
            return;
        }
        println!("{name} {}", hits + 1);
        if other.send(hits + 1).is_err() {
            return;
        }
    }
}

fn main() {
    let (to_ping, at_ping) = chan::bounded(0);
    let (to_pong, at_pong) = chan::bounded(0);
    let serve = to_ping.clone();
    // As with threads, goroutines of a scope may borrow, and are joined at its end.
    scope(|s| {
        s.go(|| player("ping", at_ping, to_pong));
        s.go(|| player("pong", at_pong, to_ping));
        serve.send(0).expect("ping is there");
        drop(serve);
    });
}
