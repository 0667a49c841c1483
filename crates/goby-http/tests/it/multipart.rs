//! Forms with files, as curl sends them, and broken ones.

use std::io::{Read, Write};

use goby::net::TcpStream;
use goby_http::{Body, Client, Form, Method, Part, Rejection, Request, Response, Router, StatusCode};

use crate::support::{Script, Site, background, curl, read_head, with_workers};

/// Tells of each field its name, the name of its file, its type and its length.
fn list(request: Request) -> Result<String, Rejection> {
    let mut form = request.multipart()?;
    let mut all = String::new();
    while let Some(field) = form.next_field()? {
        let part = |part: Option<&str>| part.unwrap_or("-").to_owned();
        let (name, file, kind) = (part(field.name()), part(field.file_name()), part(field.content_type()));
        if name != "skipped" {
            all += &format!("{name} {file} {kind} {}\n", field.bytes()?.len());
        }
    }
    Ok(all)
}

/// Adds up a file in pieces, of any size.
fn sum(request: Request) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let (mut form, mut sum) = (request.multipart()?, 0);
    while let Some(field) = form.next_field()? {
        for byte in std::io::BufReader::new(field).bytes() {
            sum += u64::from(byte?);
        }
    }
    Ok(sum.to_string())
}

fn site() -> Site {
    Site::start(Router::new().post("/list", list).post("/sum", sum))
}

#[test]
fn fields_and_files_come_as_curl_sends_them() {
    with_workers(|| {
        let site = site();
        let dir = std::env::temp_dir().join(format!("goby-http-multipart-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str, len: usize| {
            let path = dir.join(name);
            std::fs::write(&path, b"\r\n-\x01".repeat(len / 4)).unwrap();
            format!("={}", path.to_str().unwrap())
        };
        let small = format!("a{}", file("small.txt", 1000).replace('=', "=@"));
        let big = file("big.bin", 5_000_000).replace('=', "=@");
        let listed = curl(&[
            "-F",
            "text=hello",
            "-F",
            "empty=",
            "-F",
            &small,
            "-F",
            &format!("skipped{big}"),
            "-F",
            "last=é;type=text/html",
            &site.url("/list"),
        ]);
        assert_eq!(listed, "text - - 5\nempty - - 0\na small.txt text/plain 1000\nlast - text/html 2\n");
        let byte_sum = 1_250_000 * (13 + 10 + 45 + 1);
        assert_eq!(curl(&["-F", &format!("f{big}"), &site.url("/sum")]), byte_sum.to_string());
        // Just too long: curl has sent it all by then.
        let long = file("long.bin", (2 << 20) + 4).replace('=', "=@");
        let refused = curl(&["-w", " %{http_code}", "-F", &format!("f{long}"), &site.url("/list")]);
        assert_eq!(refused, "the body is longer than 2097152 bytes 413");
        let halves = file("half.bin", (1 << 20) + 4).replace('=', "=@");
        let args =
            ["-w", " %{http_code}", "-F", &format!("a{halves}"), "-F", &format!("b{halves}"), &site.url("/list")];
        assert_eq!(curl(&args), "the body is longer than 2097152 bytes 413");
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn what_is_no_form_is_refused() {
    with_workers(|| {
        let site = site();
        let post = |kind: &str, body: &str| {
            let kind = format!("content-type: {kind}");
            curl(&["-w", " %{http_code}", "-H", &kind, "--data-binary", body, &site.url("/list")])
        };
        let form = "multipart/form-data; boundary=x";
        let field = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1";
        assert_eq!(post(form, &format!("{field}\r\n--x--\r\n")), "a - - 1\n 200");
        for (kind, body) in [
            ("text/plain", ""),
            ("multipart/form-data", ""),
            ("multipart/mixed; boundary=x", ""),
            (form, ""),
            (form, "no boundary"),
            (form, "--x"),
            (form, "--x\r\n"),
            (form, "--x\r\nContent-Disposition: form-data; name=\"a\""),
            (form, "--x\r\nno header\r\n\r\n1\r\n--x--\r\n"),
            (form, field),
            (form, &format!("{field}\r\n--x")),
            (form, &format!("{field}\r\n--y--")),
        ] {
            let answer = post(kind, body);
            assert!(answer.starts_with("invalid form: ") && answer.ends_with(" 400"), "{kind} {body:?}: {answer}");
        }
        // A head without an end.
        let endless = format!("--x\r\na: {}", "b".repeat(1 << 20));
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        let len = 1 << 30;
        write!(
            stream,
            "POST /list HTTP/1.1\r\nHost: a\r\nContent-Type: {form}\r\nContent-Length: {len}\r\n\r\n{endless}"
        )
        .unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 413 Payload Too Large\r\n"));
    });
}

#[test]
fn a_client_sends_fields_files_and_streams() {
    with_workers(|| {
        let site = site();
        let path = std::env::temp_dir().join(format!("goby-http-form-{}.bin", std::process::id()));
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let form = || {
            Form::new()
                .text("text", "h\u{e9}llo")
                .text("empty", "")
                .part("file", Part::file(&path).unwrap())
                .part("skipped", Part::new(Body::from_chunks(["some", "more"])))
                .part("stream", Part::new(Body::from_reader(&b"bytes"[..])).with_file_name("a.bin"))
                .part("last", Part::text("x").with_header("content-type", "text/html"))
        };
        let client = Client::new();
        let send = |path: &str, form| {
            client.prepare(Method::POST, site.url(path)).multipart(form).send(&background()).unwrap().text().unwrap()
        };
        let name = path.file_name().unwrap().to_str().unwrap();
        let listed = format!(
            "text - - 6\nempty - - 0\nfile {name} application/octet-stream 200000\n\
             stream a.bin - 5\nlast - text/html 1\n"
        );
        assert_eq!(send("/list", form()), listed);
        assert_eq!(send("/sum", Form::new().part("a", Part::file(&path).unwrap())), (7 * 200_000).to_string());
        assert_eq!(send("/list", Form::new()), "");
        std::fs::remove_file(&path).unwrap();
    });
}

/// The exact bytes, for which no reader of forms is needed.
#[test]
fn a_form_is_written_as_browsers_write_it() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            let header = |name| request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
            let kind = format!("{} {}\n", header("content-type"), header("content-length"));
            kind + &request.text().unwrap()
        });
        let send = |form: Form| {
            let boundary = form.boundary().to_owned();
            let request = Client::new().prepare(Method::PUT, site.url("/")).header("content-type", "text/plain");
            (request.multipart(form).send(&background()).unwrap().text().unwrap(), boundary)
        };
        let (sent, b) = send(Form::new().text("a\"\r\n\\b", "1").part("c", Part::text("2").with_file_name("\"é")));
        let body = format!(
            "--{b}\r\nContent-Disposition: form-data; name=\"a%22%0D%0A\\b\"\r\n\r\n1\r\n\
             --{b}\r\nContent-Disposition: form-data; name=\"c\"; filename=\"%22é\"\r\n\r\n2\r\n--{b}--\r\n"
        );
        assert_eq!(sent, format!("multipart/form-data; boundary={b} {}\n{body}", body.len()));
        // The length of a stream is known if its reader's is.
        let sized = Part::new(Body::from_sized_reader(&b"123"[..], 3));
        let (sent, b) = send(Form::new().part("a", sized));
        let body = format!("--{b}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n123\r\n--{b}--\r\n");
        assert_eq!(sent, format!("multipart/form-data; boundary={b} {}\n{body}", body.len()));
        let (sent, b) = send(Form::new().part("a", Part::new(Body::from_reader(&b"123"[..]))));
        assert_eq!(sent, format!("multipart/form-data; boundary={b} -\n{body}", body = body.replace(&body[2..34], &b)));
    });
}

#[test]
fn a_form_of_texts_is_sent_again_after_a_redirect() {
    with_workers(|| {
        let site = Site::start(
            Router::new()
                .post("/list", list)
                .post("/to", |_: Request| Response::redirect("/list").with_status(StatusCode::PERMANENT_REDIRECT)),
        );
        let send = |form| {
            let request = Client::new().prepare(Method::POST, site.url("/to"));
            request.multipart(form).send(&background()).unwrap()
        };
        assert_eq!(send(Form::new().text("a", "1")).text().unwrap(), "a - - 1\n");
        assert_eq!(send(Form::new().part("a", Part::file("/dev/null").unwrap())).status(), 308);
    });
}

#[test]
fn a_file_that_becomes_shorter_breaks_the_request_off() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            let mut all = Vec::new();
            let _ = { &stream }.read_to_end(&mut all);
            assert!(!all.ends_with(b"--\r\n"));
        });
        let short = Part::new(Body::from_sized_reader(&b"123"[..], 4));
        let form = Form::new().part("a", short).text("b", "2");
        let request = Client::new().prepare(Method::POST, script.url("/"));
        let error = request.multipart(form).send(&background()).unwrap_err();
        assert!(error.is_request(), "{error:?}");
    });
}
