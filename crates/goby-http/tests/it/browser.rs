//! A browser at the other end: Chromium loads a page with its assets over HTTP/2, and opens a
//! WebSocket.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use goby::sync::Mutex;
use goby::tls::{Identity, TlsAcceptor};
use goby::{chan, process, select};
use goby_http::{Request, Response, Router, StatusCode, Version};
use goby_test_support::has_if;

use crate::support::{Site, run, with_workers};

const ASSETS: usize = 50;

/// Where the browser is. The shell is Chromium without what draws windows.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium-headless-shell", "chromium"];
    let mut places = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let found = places.find(|place| place.exists());
    has_if(found.is_some(), "chromium-headless-shell", "ci/setup.sh installs it").then_some(found).flatten()
}

/// A page whose `load` event waits for `/hold`, which is answered when the page has reported.
fn page() -> Response {
    let asset = |n: usize| match n % 3 {
        0 => format!(r#"<link rel="stylesheet" href="/assets/{n}.css">"#),
        1 => format!(r#"<script defer src="/assets/{n}.js"></script>"#),
        _ => format!(r#"<img src="/assets/{n}.svg">"#),
    };
    let assets: String = (0..ASSETS).map(asset).collect();
    let script = r#"
        let ran = 0
        const assets = () => performance.getEntriesByType('resource').filter(entry => entry.name.includes('/assets/'))
        const whole = () => assets().length === 50 && [...document.images].slice(0, -1).every(image => image.complete)
        const later = time => new Promise(resolve => setTimeout(resolve, time))
        const socket = new WebSocket(`wss://${location.host}/echo`)
        socket.binaryType = 'arraybuffer'
        const heard = []
        const closed = new Promise(resolve => {
            socket.onopen = () => { socket.send('häuser'); socket.send(new Uint8Array(100000).fill(7)) }
            socket.onmessage = event => {
                heard.push(typeof event.data === 'string' ? event.data : event.data.byteLength)
                if (heard.length === 2) socket.close(4000, 'enough')
            }
            socket.onclose = event => resolve(`${event.code} ${event.reason} ${event.wasClean}`)
            socket.onerror = () => heard.push('an error')
        })
        async function report() {
            const end = await closed
            while (!whole()) await later(10)
            const over = assets().filter(entry => entry.nextHopProtocol === 'h2').length
            const sized = [...document.images].filter(image => image.naturalWidth === 8).length
            const color = getComputedStyle(document.body).getPropertyValue('--asset-48').trim()
            const found = [`h2: ${over} of ${assets().length}`, `ran: ${ran}`, `sized: ${sized}`, `color: ${color}`]
            document.getElementById('report').textContent = [...found, `heard: ${heard}`, `end: ${end}`].join('; ')
            await fetch('/report', { method: 'POST', body: 'done' })
        }
        report()
    "#;
    let page = format!(
        r#"<!doctype html><title>assets</title><p id="report"></p>{assets}<img src="/hold"><script>{script}</script>"#
    );
    Response::new(page).with_header("content-type", "text/html; charset=utf-8")
}

fn asset(request: Request) -> Response {
    let name = request.param("name").unwrap_or_default();
    let (n, ending) = name.split_once('.').unwrap_or_default();
    let (body, kind) = match ending {
        "css" => (format!("body {{ --asset-{n}: red }} /* {} */", "x".repeat(20_000)), "text/css"),
        "js" => (format!("ran += 1 // {}", "x".repeat(20_000)), "text/javascript"),
        "svg" => (r#"<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>"#.to_owned(), "image/svg+xml"),
        _ => return StatusCode::NOT_FOUND.into(),
    };
    Response::new(body).with_header("content-type", kind)
}

fn echo(request: Request) -> Response {
    request.websocket(|socket| {
        while let Ok(Some(message)) = socket.receive() {
            socket.send(message).unwrap();
        }
    })
}

/// The hash of a certificate's key, by which Chromium is told to trust it.
fn fingerprint(pem: &str) -> String {
    let hash = "openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64";
    run("sh", &["-c", &format!("echo '{pem}' | {hash}")]).trim().to_owned()
}

#[test]
fn chromium_loads_a_page_over_http2_and_opens_a_websocket() {
    let Some(browser) = browser() else { return };
    with_workers(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = made.cert.pem();
        let identity = Identity::new(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        let peers = Arc::new(Mutex::new(HashSet::new()));
        let (reports, reported) = chan::bounded::<()>(1);
        let seen = peers.clone();
        let assets = move |request: Request| {
            seen.lock().insert((request.version(), request.remote_addr()));
            asset(request)
        };
        let router = Router::new()
            .get("/", |_: Request| page())
            .get("/assets/{name}", assets)
            .get("/echo", echo)
            .post("/report", move |_: Request| {
                let _ = reports.try_send(());
            })
            .get("/hold", move |request: Request| {
                select! {
                    recv(reported) -> _ => {}
                    recv(request.context().done()) -> _ => {}
                }
            });
        let site = Site::start_with(|server| server.tls(acceptor), router);

        let profile = std::env::temp_dir().join(format!("goby-http-chromium-{}", std::process::id()));
        let output = process::Command::new(&browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--timeout=100000"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--ignore-certificate-errors-spki-list={}", fingerprint(&pem)))
            .arg(format!("https://localhost:{}/", site.addr().port()))
            .output()
            .unwrap();
        let _ = std::fs::remove_dir_all(&profile);
        let dom = String::from_utf8_lossy(&output.stdout);
        let report = dom.split_once(r#"<p id="report">"#).and_then(|(_, rest)| rest.split_once("</p>"));
        let expected = "h2: 50 of 50; ran: 17; sized: 16; color: red; heard: häuser,100000; end: 4000 enough true";
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(report.map(|(report, _)| report), Some(expected), "{dom}\n{stderr}");
        let peers = peers.lock();
        assert!(peers.iter().all(|(version, _)| *version == Version::HTTP_2) && peers.len() == 1, "{peers:?}");
    });
}
