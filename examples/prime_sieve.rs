//! The prime sieve: a chain of goroutines. Each lets through the numbers that its prime does not
//! divide.
//!
//! In Go:
//!
//! ```go
//! func main() {
//!     numbers := make(chan int)
//!     go func() {
//!         for i := 2; ; i++ {
//!             numbers <- i
//!         }
//!     }()
//!     for range 25 {
//!         prime := <-numbers
//!         fmt.Println(prime)
//!         in, out := numbers, make(chan int)
//!         go func() {
//!             for {
//!                 if v := <-in; v%prime != 0 {
//!                     out <- v
//!                 }
//!             }
//!         }()
//!         numbers = out
//!     }
//! }
//! ```
//!
//! Go's chain stays behind, blocked forever. Here it ends. When the last receiver is dropped, its
//! sender's next send is refused; that goroutine returns, and drops its own receiver. So it goes
//! back to the source.

use goby::{chan, go};

fn main() {
    let (tx, mut numbers) = chan::bounded(0);
    go(move || (2..).try_for_each(|i: u32| tx.send(i)));

    for _ in 0..25 {
        let prime = numbers.recv().expect("the source does not end by itself");
        println!("{prime}");
        let (tx, rx) = chan::bounded(0);
        let input = std::mem::replace(&mut numbers, rx);
        go(move || input.iter().filter(|v| v % prime != 0).try_for_each(|v| tx.send(v)));
    }
}
