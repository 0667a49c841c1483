//! The texts around the list of options: usage, results, exit status, examples.

pub(super) const USAGE: &str = "\
goby fetch [OPTIONS] [URL]...
       goby fetch [OPTIONS] --demo <N>";

pub(super) const SHORT_NOTES: &str = "\
Exit status: 0 all fetched (2xx or 3xx), 1 some failed, 2 usage, 130 interrupted.
Results, retries, saved names and examples are explained by --help.";

pub(super) const LONG_NOTES: &str = r#"Results:
  {"url":"http://…","status":200,"bytes":1234,"ms":12.3,"attempts":1}
  {"url":"http://…","error":"timeout","message":"…","attempts":3}

  "ms" is the time of the last attempt, from connecting to the last byte, without waits for a
  turn; "bytes" is the body's length; "final_url" is where redirects have led; "content_type" is
  what the server says; "file" is where --output-dir put it. --sha256, --timings and --show-header
  add more. A password in "url" is shown as ***. Kinds of "error":
    timeout             not within --max-time or --connect-timeout, or nothing came for --speed-time
    dns                 the host's name was not resolved
    connect             no connection, or it broke before the response
    tls                 the server's certificate or its TLS is not acceptable
    protocol            what came is no proper HTTP
    http_status         a response, but not 2xx or 3xx; its "status" is given too
    body                the response broke off in its body
    too_many_redirects  more than --max-redirs
    invalid_url         not an http or https URL or no request (the message names the line), or a
                        redirect to none
    host_down           not requested: the host failed too often (--max-host-failures)
    robots              not requested: robots.txt does not allow it (--robots)
    too_large           the body is longer than --max-filesize
    save                the body could not be saved
    canceled            in flight when the run was stopped

Stopping:
  After Ctrl-C or SIGTERM no new requests start and those in flight are abandoned; everything
  finished is in the output, and --resume goes on from there. A second one ends at once.

Exit status:
  0    every URL was fetched: 2xx, or 3xx without a redirect to follow; or whoever reads the
       results has closed the pipe
  1    some were not, or --total was up, or reading or writing failed on the way
  2    usage: an option, input, output or directory cannot be used; nothing was requested
  130  interrupted by Ctrl-C or SIGTERM

Examples:
  Fetch a list, with results in a file and a line of progress:
      goby fetch --input urls.txt -o results.ndjson

  Go on where that was stopped:
      goby fetch --input urls.txt -o results.ndjson --resume

  Keep the pages, politely: ten a second, two for each host:
      goby fetch --input urls.txt --output-dir pages --rate 10 --per-host 2

  Which links of a page are dead?
      extract-links page.html | goby fetch --input - | jq -r 'select(.error) | .url'

  See it work without a network:
      goby fetch --demo 2000"#;
