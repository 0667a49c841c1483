//! Server-sent events: what one client says, all that listen hear at once.
//!
//!     cargo run -p goby-examples --bin event_stream [ADDR]
//!     curl -N 127.0.0.1:8080/events
//!     curl 127.0.0.1:8080/say -d 'hello, all'
//!
//! In Go:
//!
//! ```go
//! func (h *Hub) events(w http.ResponseWriter, r *http.Request) {
//!     news := h.join()
//!     defer h.leave(news)
//!     w.Header().Set("Content-Type", "text/event-stream")
//!     for {
//!         select {
//!         case text := <-news:
//!             for _, line := range strings.Split(text, "\n") {
//!                 fmt.Fprintf(w, "data: %s\n", line)
//!             }
//!             fmt.Fprint(w, "\n")
//!             if err := http.NewResponseController(w).Flush(); err != nil {
//!                 return
//!             }
//!         case <-r.Context().Done():
//!             return
//!         }
//!     }
//! }
//! ```

use std::io;
use std::sync::Arc;

use goby::chan::{Receiver, Sender, bounded};
use goby::select;
use goby::sync::Mutex;
use goby_http::sse::{self, Event};
use goby_http::{Rejection, Request, Response, Router, Server, StatusCode};

const PAGE: &str = r#"<!doctype html><title>events</title><ul id="news"></ul>
<input onchange="fetch('/say', {method: 'POST', body: this.value}); this.value = ''">
<script>
new EventSource("/events").onmessage = event => {
    const item = document.createElement("li");
    item.textContent = event.data;
    document.getElementById("news").append(item);
};
</script>
"#;

/// Who listens.
#[derive(Default)]
struct Hub {
    listeners: Mutex<Vec<Sender<Arc<str>>>>,
}

impl Hub {
    fn join(&self) -> Receiver<Arc<str>> {
        let (tx, rx) = bounded(16);
        self.listeners.lock().push(tx);
        rx
    }

    /// Tells all, and forgets those that have gone or are 16 events behind.
    fn tell(&self, text: &str) {
        let text: Arc<str> = text.into();
        self.listeners.lock().retain(|listener| listener.try_send(text.clone()).is_ok());
    }
}

fn events(hub: &Hub, request: &Request) -> Response {
    let news = hub.join();
    sse::stream(request, move |events| {
        events.send(&Event::new().event("welcome").data("you hear what others say"))?;
        for id in 1.. {
            select! {
                recv(news) -> text => match text {
                    Ok(text) => events.send(&Event::new().id(id.to_string()).data(text))?,
                    Err(_) => break,
                },
                recv(events.context().done()) -> _ => break,
            }
        }
        Ok(())
    })
}

fn say(hub: &Hub, request: Request) -> Result<StatusCode, Rejection> {
    let body = request.buffered()?;
    hub.tell(&String::from_utf8_lossy(&body));
    Ok(StatusCode::NO_CONTENT)
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let hub = Arc::new(Hub::default());
    let router = Router::new()
        .get("/", |_: Request| Response::new(PAGE).with_header("content-type", "text/html; charset=utf-8"))
        .get("/events", {
            let hub = hub.clone();
            move |request: Request| events(&hub, &request)
        })
        .post("/say", move |request: Request| say(&hub, request));

    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());
    server.serve(router)
}
