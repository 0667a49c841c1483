//! `--demo`: a site that goby serves itself on loopback, and its pages.

use goby::Context;
use goby::context::CancelGuard;
use goby_http::{Request, Response, Server, StatusCode};

use crate::exit::Usage;
use crate::text;

/// Most pages are small. One in ten is medium and one in a hundred is large, as on a real site.
const SMALL: usize = 400;
const MEDIUM: usize = 40_000;
const LARGE: usize = 1_000_000;

/// The demo's site. It is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Site {
    base: String,
    _serving: CancelGuard,
}

/// The pages of the demo's site.
#[derive(Debug)]
pub(crate) struct Pages {
    base: String,
    count: u64,
}

impl Site {
    /// Starts to serve.
    ///
    /// # Errors
    /// If loopback gives no port.
    pub(crate) fn start() -> Result<Site, Usage> {
        let server = Server::bind("127.0.0.1:0").map_err(|error| {
            Usage::new(format!("cannot serve the demo's site on 127.0.0.1: {}", text::reason(&error)))
        })?;
        let base = format!("http://{}", server.local_addr());
        let (ctx, serving) = Context::background().with_cancel();
        goby::go(move || server.serve_ctx(&ctx, answer));
        Ok(Site { base, _serving: serving })
    }

    /// Gives the first `count` pages.
    pub(crate) fn pages(&self, count: u64) -> Pages {
        Pages { base: self.base.clone(), count }
    }
}

impl Pages {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// Their URLs.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.count).map(|number| format!("{}/page/{number}.html", self.base))
    }
}

fn answer(request: Request) -> Response {
    let number = request.uri().path().strip_prefix("/page/").and_then(|rest| rest.strip_suffix(".html"));
    match number.and_then(|number| number.parse().ok()) {
        Some(number) => Response::new(page(number)).with_header("content-type", "text/html"),
        None => Response::new("no such page\n").with_status(StatusCode::NOT_FOUND),
    }
}

/// Makes page `number`, always with the same content and size.
fn page(number: u64) -> String {
    let usual = match number % 100 {
        0 => LARGE,
        rest if rest % 10 == 0 => MEDIUM,
        _ => SMALL,
    };
    // From half the usual size to one and a half.
    let size = usual / 2 + (number.wrapping_mul(7919) % usual as u64) as usize;
    let line = format!("<p>This is page {number} of goby's demo.</p>\n");
    line.repeat(size.div_ceil(line.len()))
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_are_of_mixed_sizes() {
        let sizes: Vec<usize> = (1..=1000).map(|number| page(number).len()).collect();
        let within = |from, to| sizes.iter().filter(|&&size| from <= size && size < to).count();
        assert_eq!((within(200, 700), within(20_000, 61_000), within(500_000, 1_501_000)), (900, 90, 10));
    }
}
