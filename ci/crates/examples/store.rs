//! A store of notes with a JSON API: SQLite behind a pool of connections, a job for each note in
//! the background, and a limit of requests per client. Ctrl-C ends it: after the requests under
//! way, and the jobs that they have left.
//!
//!     cargo run --manifest-path ci/crates/Cargo.toml --bin store [ADDR [FILE]]
//!
//! then: curl --json '{"text": "so long"}' 127.0.0.1:8080/notes; curl 127.0.0.1:8080/notes/1
//!
//! In Go:
//!
//! ```go
//! type store struct {
//!     db   *sql.DB
//!     jobs chan int64
//! }
//!
//! func (s *store) add(w http.ResponseWriter, r *http.Request) {
//!     var note struct{ Text *string }
//!     if err := json.NewDecoder(r.Body).Decode(&note); err != nil || note.Text == nil {
//!         reply(w, http.StatusBadRequest, map[string]any{"error": "a note has a text"})
//!         return
//!     }
//!     result, err := s.db.ExecContext(r.Context(), "INSERT INTO notes (text) VALUES (?)", *note.Text)
//!     if err != nil {
//!         fail(w, err)
//!         return
//!     }
//!     id, _ := result.LastInsertId()
//!     s.jobs <- id
//!     reply(w, http.StatusCreated, map[string]any{"id": id})
//! }
//!
//! func (s *store) work() {
//!     for id := range s.jobs {
//!         if err := s.countWords(id); err != nil {
//!             log.Printf("note %d: %v", id, err)
//!         }
//!     }
//! }
//!
//! func main() {
//!     db, err := sql.Open("sqlite3", "notes.db")
//!     // …
//!     db.SetMaxOpenConns(4)
//!     s := &store{db, make(chan int64, 100)}
//!     var workers sync.WaitGroup
//!     for range 2 {
//!         workers.Go(s.work)
//!     }
//!     limiters := newLimiters(rate.Every(time.Second), 20)
//!     ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//!     defer stop()
//!     server := &http.Server{Addr: "127.0.0.1:8080", Handler: limiters.limit(s.routes())}
//!     go server.ListenAndServe()
//!     <-ctx.Done()
//!     server.Shutdown(context.Background())
//!     close(s.jobs)
//!     workers.Wait()
//!     db.Close()
//! }
//! ```

use std::error::Error;
use std::net::IpAddr;

use goby::pool::Pool;
use goby::rate::Keyed;
use goby::signal::{self, Signal};
use goby::sync::WaitGroup;
use goby::{Context, blocking, chan};
use goby_http::{Method, Request, Response, Server, StatusCode};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Each client may make so many requests per second in the long run, and so many at once.
const RATE: f64 = 1.0;
const BURST: usize = 20;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let store = Store::open(args.next().unwrap_or_else(|| "notes.db".to_owned()))?;
    let (jobs, queue) = chan::bounded(100);
    let workers = WaitGroup::new();
    for _ in 0..2 {
        let (store, queue) = (store.clone(), queue.clone());
        workers.go(move || work(&store, &queue));
    }

    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());
    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    let (api, clients) = (store.clone(), Keyed::per_second(RATE, BURST));
    server.serve_ctx(&ctx, move |request: Request| {
        if !clients.allow::<IpAddr>(&request.remote_addr().ip()) {
            return reply(StatusCode::TOO_MANY_REQUESTS, &json!({"error": "too many requests"}));
        }
        route(&api, &jobs, request).unwrap_or_else(|error| {
            eprintln!("{error}: {:?}", error.source());
            reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": "sorry"}))
        })
    })?;
    // The handler is gone, and the sender of jobs with it: the workers finish what is left.
    workers.wait();
    println!("bye");
    store.notes.close();
    Ok(())
}

fn route(store: &Store, jobs: &chan::Sender<i64>, request: Request) -> Result<Response> {
    let path = request.path().to_owned();
    let id = path.strip_prefix("/notes/").map(str::parse);
    let (status, value) = match (request.method(), path.as_str(), id) {
        (&Method::POST, "/notes", _) => match serde_json::from_slice::<Value>(&request.bytes()?) {
            Ok(Value::Object(note)) if note.get("text").is_some_and(Value::is_string) => {
                let id = store.add(note["text"].as_str().unwrap_or_default())?;
                jobs.send(id)?; // parks while the workers have too much to do
                (StatusCode::CREATED, json!({ "id": id }))
            }
            _ => (StatusCode::BAD_REQUEST, json!({"error": "a note has a text"})),
        },
        (&Method::GET, _, Some(Ok(id))) => match store.find(id)? {
            Some(note) => (StatusCode::OK, note),
            None => (StatusCode::NOT_FOUND, json!({"error": "no such note"})),
        },
        _ => (StatusCode::NOT_FOUND, json!({"error": "no such page"})),
    };
    Ok(reply(status, &value))
}

fn reply(status: StatusCode, value: &Value) -> Response {
    Response::new(format!("{value}\n")).with_status(status).with_header("content-type", "application/json")
}

/// Counts the words of each note that comes, until no more can come.
fn work(store: &Store, queue: &chan::Receiver<i64>) {
    for id in queue.iter() {
        if let Err(error) = store.count_words(id) {
            eprintln!("note {id}: {error}");
        }
    }
}

#[derive(Clone)]
struct Store {
    notes: Pool<Connection, rusqlite::Error>,
}

impl Store {
    fn open(path: String) -> Result<Store> {
        let connect = move || {
            blocking(|| {
                let connection = Connection::open(&path)?;
                connection.execute_batch("PRAGMA journal_mode = wal; PRAGMA busy_timeout = 5000")?;
                Ok(connection)
            })
        };
        let store = Store { notes: Pool::builder(connect).max_size(4).build() };
        store.with(|db| {
            db.execute_batch(
                "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, words INTEGER)",
            )
        })?;
        Ok(store)
    }

    /// Parks until a connection is free, and while `f` uses it on a thread that may block.
    fn with<R: Send>(&self, f: impl FnOnce(&mut Connection) -> rusqlite::Result<R> + Send) -> Result<R> {
        Ok(self.notes.get()?.blocking(f)?)
    }

    fn add(&self, text: &str) -> Result<i64> {
        self.with(|db| {
            db.execute("INSERT INTO notes (text) VALUES (?1)", [text])?;
            Ok(db.last_insert_rowid())
        })
    }

    fn find(&self, id: i64) -> Result<Option<Value>> {
        self.with(|db| {
            let select = "SELECT text, words FROM notes WHERE id = ?1";
            let note = |row: &rusqlite::Row<'_>| {
                Ok(json!({"id": id, "text": row.get::<_, String>(0)?, "words": row.get::<_, Option<i64>>(1)?}))
            };
            db.query_row(select, [id], note).optional()
        })
    }

    fn count_words(&self, id: i64) -> Result<()> {
        self.with(|db| {
            let text: String = db.query_row("SELECT text FROM notes WHERE id = ?1", [id], |row| row.get(0))?;
            let words = i64::try_from(text.split_whitespace().count()).expect("it fits in memory");
            db.execute("UPDATE notes SET words = ?1 WHERE id = ?2", params![words, id])?;
            Ok(())
        })
    }
}
