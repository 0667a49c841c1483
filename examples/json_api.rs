//! A JSON API: a router, JSON both ways, errors that are values, and two middlewares.
//!
//!     cargo run -p goby-examples --bin json_api [ADDR]
//!     curl 127.0.0.1:8080/todos -H 'content-type: application/json' -d '{"title": "buy milk"}'
//!
//! In Go:
//!
//! ```go
//! func (s *Store) create(w http.ResponseWriter, r *http.Request) {
//!     var draft Draft
//!     if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2<<20)).Decode(&draft); err != nil {
//!         fail(w, http.StatusBadRequest, err.Error())
//!         return
//!     }
//!     todo := s.add(draft)
//!     w.Header().Set("Location", fmt.Sprintf("/todos/%d", todo.ID))
//!     w.Header().Set("Content-Type", "application/json")
//!     w.WriteHeader(http.StatusCreated)
//!     json.NewEncoder(w).Encode(todo)
//! }
//!
//! func main() {
//!     mux := http.NewServeMux()
//!     mux.HandleFunc("GET /todos", store.list)
//!     mux.HandleFunc("POST /todos", store.create)
//!     mux.HandleFunc("GET /todos/{id}", store.read)
//!     mux.HandleFunc("PUT /todos/{id}", store.write)
//!     mux.HandleFunc("DELETE /todos/{id}", store.remove)
//!     log.Fatal(http.ListenAndServe("127.0.0.1:8080", logged(mux)))
//! }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use goby::sync::Mutex;
use goby_http::{Handler, Rejection, Request, Response, Router, Server, StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize)]
struct Todo {
    id: u32,
    title: String,
    done: bool,
}

/// What a client sends.
#[derive(Deserialize)]
struct Draft {
    title: String,
    #[serde(default)]
    done: bool,
}

#[derive(Deserialize)]
struct Filter {
    done: Option<bool>,
}

#[derive(Default)]
struct Store {
    todos: Mutex<BTreeMap<u32, Todo>>,
}

type Answer = Result<Response, Rejection>;

fn list(store: &Store, request: Request) -> Answer {
    let filter: Filter = request.query_as()?;
    let wanted = |todo: &&Todo| filter.done.is_none_or(|done| todo.done == done);
    let todos: Vec<_> = store.todos.lock().values().filter(wanted).cloned().collect();
    Ok(Response::json(&todos))
}

fn create(store: &Store, request: Request) -> Answer {
    let Draft { title, done } = request.json()?;
    let mut todos = store.todos.lock();
    let id = todos.last_key_value().map_or(1, |(last, _)| last + 1);
    let todo = Todo { id, title, done };
    let response =
        Response::json(&todo).with_status(StatusCode::CREATED).with_header("location", format!("/todos/{id}"));
    todos.insert(id, todo);
    Ok(response)
}

fn read(store: &Store, request: Request) -> Answer {
    let id = request.param_as("id")?;
    store.todos.lock().get(&id).map(Response::json).ok_or_else(|| missing(id))
}

fn write(store: &Store, request: Request) -> Answer {
    let id = request.param_as("id")?;
    let Draft { title, done } = request.json()?;
    let mut todos = store.todos.lock();
    let todo = todos.get_mut(&id).ok_or_else(|| missing(id))?;
    *todo = Todo { id, title, done };
    Ok(Response::json(todo))
}

fn remove(store: &Store, request: Request) -> Answer {
    let id = request.param_as("id")?;
    store.todos.lock().remove(&id).map(|_| StatusCode::NO_CONTENT.into()).ok_or_else(|| missing(id))
}

fn missing(id: u32) -> Rejection {
    Rejection::new(StatusCode::NOT_FOUND, format!("there is no todo {id}"))
}

/// Writes a line for each request.
fn logged(request: Request, next: &dyn Handler) -> Response {
    let (method, target) = (request.method().clone(), request.uri().clone());
    let response = next.handle(request);
    println!("{method} {target} {}", response.status().as_u16());
    response
}

/// Gives errors the form that clients of the API expect.
fn json_errors(request: Request, next: &dyn Handler) -> Response {
    let response = next.handle(request);
    match response.error() {
        Some(error) if response.status().is_client_error() => {
            let body = BTreeMap::from([("error", error.to_string())]);
            Response::json(&body).with_status(response.status())
        }
        _ => response,
    }
}

/// Makes a handler of a function that needs the store.
fn on(store: &Arc<Store>, f: fn(&Store, Request) -> Answer) -> impl Handler + use<> {
    let store = store.clone();
    move |request: Request| f(&store, request)
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let store = Arc::new(Store::default());
    let todos = Router::new()
        .get("/", on(&store, list))
        .post("/", on(&store, create))
        .get("/{id}", on(&store, read))
        .put("/{id}", on(&store, write))
        .delete("/{id}", on(&store, remove));
    let router = Router::new().nest("/todos", todos).with(json_errors).with(logged);

    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());
    server.serve(router)
}
