//! A chat over WebSockets, for browsers: open http://127.0.0.1:8000 in two windows.
//!
//!     cargo run -p goby-examples --bin websocket_chat [ADDR]
//!
//! Each member has two goroutines: the one of its connection receives, another sends what the room
//! says. The room is a map of channels under a lock. With Go and gorilla/websocket:
//!
//! ```go
//! func join(w http.ResponseWriter, r *http.Request) {
//!     conn, err := upgrader.Upgrade(w, r, nil)
//!     if err != nil {
//!         return // Upgrade has answered
//!     }
//!     defer conn.Close()
//!     lines := room.enter()
//!     defer room.leave(lines)
//!     go func() {
//!         for line := range lines {
//!             conn.WriteMessage(websocket.TextMessage, []byte(line))
//!         }
//!     }()
//!     for {
//!         _, line, err := conn.ReadMessage()
//!         if err != nil {
//!             return
//!         }
//!         room.say(string(line))
//!     }
//! }
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use goby::chan::{self, Receiver, Sender};
use goby::signal::{self, Signal};
use goby::sync::Mutex;
use goby::{Context, scope};
use goby_http::websocket::{Message, WebSocket};
use goby_http::{Request, Response, Router, Server};

#[derive(Default)]
struct Room {
    members: Mutex<(u64, HashMap<u64, Sender<String>>)>,
}

impl Room {
    fn enter(&self) -> (u64, Receiver<String>) {
        let (line, lines) = chan::bounded(64);
        let mut members = self.members.lock();
        members.0 += 1;
        let number = members.0;
        members.1.insert(number, line);
        (number, lines)
    }

    /// Drops the sender of a member, which ends its lines.
    fn leave(&self, number: u64) {
        self.members.lock().1.remove(&number);
    }

    fn say(&self, line: &str) {
        for member in self.members.lock().1.values() {
            // A member that does not keep up misses lines; it does not hold up the others.
            let _ = member.try_send(line.to_owned());
        }
    }

    /// Serves a member until it leaves, or the server stops.
    fn serve(&self, socket: &WebSocket) {
        let (number, lines) = self.enter();
        scope(|s| {
            s.go(|| lines.iter().try_for_each(|line| socket.send(line)));
            self.say(&format!("{number} is here"));
            while let Ok(Some(Message::Text(line))) = socket.receive() {
                self.say(&format!("{number}: {line}"));
            }
            self.leave(number);
        });
        self.say(&format!("{number} has left"));
    }
}

const PAGE: &str = r#"<!doctype html><title>Chat</title><input autofocus><pre></pre><script>
const [input] = document.getElementsByTagName('input'), [pre] = document.getElementsByTagName('pre')
const socket = new WebSocket(location.origin.replace('http', 'ws') + '/chat')
socket.onmessage = event => pre.textContent += event.data + '\n'
input.onchange = () => { socket.send(input.value); input.value = '' }
</script>"#;

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());

    let room = Arc::new(Room::default());
    let chat = move |request: Request| {
        let room = room.clone();
        request.websocket(move |socket| room.serve(socket))
    };
    let page = |_: Request| Response::new(PAGE).with_header("content-type", "text/html; charset=utf-8");
    let router = Router::new().get("/", page).get("/chat", chat);

    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    server.serve_ctx(&ctx, router)?;
    println!("bye");
    Ok(())
}
