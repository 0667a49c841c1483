//! A chat: all clients read what one client writes. A client's first line is its name.
//!
//!     cargo run -p goby-examples --bin chat_server [ADDR]      then: nc 127.0.0.1 7000
//!
//! One goroutine, the hub, knows the clients; the others talk to it over channels, so nothing is
//! locked. A client has two goroutines, one that reads its socket and one that writes it. The shape
//! is Go's:
//!
//! ```go
//! func hub() {
//!     clients := map[string]chan<- string{}
//!     for {
//!         select {
//!         case c := <-entering:
//!             clients[c.name] = c.out
//!         case name := <-leaving:
//!             close(clients[name])
//!             delete(clients, name)
//!         case line := <-lines:
//!             for _, out := range clients {
//!                 out <- line
//!             }
//!         }
//!     }
//! }
//! ```

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;
use std::time::Duration;

use goby::chan::{self, Receiver, Sender};
use goby::net::{TcpListener, TcpStream};
use goby::{go, select, time};

/// A client's number and where its lines go.
type Client = (usize, Sender<String>);

/// The senders' ends of the hub.
#[derive(Clone)]
struct Hub {
    entering: Sender<Client>,
    leaving: Sender<usize>,
    lines: Sender<String>,
}

fn start_hub() -> Hub {
    let (entering, entered) = chan::bounded(0);
    let (leaving, left) = chan::bounded(0);
    let (lines, said) = chan::bounded(0);
    go(move || hub(entered, left, said));
    Hub { entering, leaving, lines }
}

fn hub(entered: Receiver<Client>, left: Receiver<usize>, said: Receiver<String>) {
    let mut clients: HashMap<usize, Sender<String>> = HashMap::new();
    loop {
        select! {
            recv(entered) -> client => match client {
                Ok((number, out)) => drop(clients.insert(number, out)),
                Err(_) => return, // no listener and no client is left
            },
            recv(left) -> number => if let Ok(number) = number {
                clients.remove(&number); // drops the sender, which ends the client's writer
            },
            recv(said) -> line => if let Ok(line) = line {
                for out in clients.values() {
                    // A client that does not keep up misses lines; it does not hold up the others.
                    let _ = out.try_send(line.clone());
                }
            },
        }
    }
}

fn serve(number: usize, stream: TcpStream, hub: Hub) -> io::Result<()> {
    let stream = Arc::new(stream);
    let mut lines = BufReader::new(&*stream).lines();
    let Some(name) = lines.next().transpose()? else { return Ok(()) };

    let (out, outgoing) = chan::bounded(64);
    let writer = stream.clone();
    go(move || outgoing.iter().try_for_each(|line: String| writeln!(&*writer, "{line}")));

    let say = |line: String| hub.lines.send(line).expect("the hub lives as long as a client");
    hub.entering.send((number, out)).expect("the hub lives as long as a client");
    say(format!("{name} is here"));
    for line in lines.map_while(Result::ok) {
        say(format!("{name}: {line}"));
    }
    hub.leaving.send(number).expect("the hub lives as long as a client");
    say(format!("{name} has left"));
    Ok(())
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let listener = TcpListener::bind(&addr)?;
    println!("listening on {}", listener.local_addr()?);

    let hub = start_hub();
    for (number, stream) in listener.incoming().enumerate() {
        let Ok(stream) = stream.inspect_err(|error| eprintln!("accept: {error}")) else {
            time::sleep(Duration::from_millis(100)); // no descriptor is free, say
            continue;
        };
        let hub = hub.clone();
        go(move || {
            if let Err(e) = serve(number, stream, hub) {
                eprintln!("client {number}: {e}");
            }
        });
    }
    Ok(())
}
