//! Options of requests: what is asked, and in whose name.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use http::Method;

use super::super::body::Data;
use super::super::request::{Header, User};

#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
pub(crate) struct RequestArgs {
    /// Send the header NAME with VALUE.
    ///
    /// As curl's option, which can be given several times: "NAME:" sends none of that name, "NAME;"
    /// one without a value, and @FILE has a header on each line. Headers go to all URLs of the run.
    /// After a redirect to another origin, authorization and cookie are left out.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = Header::parse)]
    pub(crate) headers: Vec<Header>,

    /// Send NAME as the header user-agent ("" sends none) [default: goby/VERSION]
    #[arg(short = 'A', long, value_name = "NAME")]
    pub(crate) user_agent: Option<String>,

    /// Send URL as the header referer.
    #[arg(short = 'e', long, value_name = "URL")]
    pub(crate) referer: Option<String>,

    /// Request with METHOD [default: GET, with a body POST]
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = parse_method)]
    pub(crate) method: Option<Method>,

    /// Request with HEAD: the server sends no bodies.
    #[arg(short = 'I', long, conflicts_with_all = ["data", "method"])]
    pub(crate) head: bool,

    /// Send DATA as the body, or the content of the file in @FILE.
    ///
    /// As curl's option: the method is POST, the type that of a form, several are joined by &, and
    /// line breaks of a file are left out. (To save bodies in a directory, write --output-dir.)
    #[arg(short = 'd', long, value_name = "DATA", allow_hyphen_values = true, value_parser = Data::form)]
    pub(crate) data: Vec<Data>,

    /// Send DATA as it is, also if it begins with @.
    #[arg(long, value_name = "DATA", allow_hyphen_values = true, value_parser = Data::raw)]
    pub(crate) data_raw: Vec<Data>,

    /// Send DATA, or a file as it is, line breaks included.
    #[arg(long, value_name = "DATA", allow_hyphen_values = true, value_parser = Data::binary)]
    pub(crate) data_binary: Vec<Data>,

    /// Send DATA, or a file, as JSON: with its type, and asking for JSON.
    #[arg(long, value_name = "DATA", conflicts_with_all = ["data", "data_raw", "data_binary", "head"],
          value_parser = Data::binary)]
    pub(crate) json: Vec<Data>,

    /// Send NAME and PASSWORD (basic authentication).
    ///
    /// They go to all URLs of the run, but not to another origin after a redirect, and stand in no
    /// result. Other users of the machine see them in the list of processes: a netrc file hides
    /// them.
    #[arg(short = 'u', long, value_name = "NAME:PASSWORD", value_parser = User::parse)]
    pub(crate) user: Option<User>,

    /// Take names and passwords from ~/.netrc, or the file that $NETRC names.
    #[arg(short = 'n', long, action = ArgAction::SetTrue)]
    pub(crate) netrc: bool,

    /// Take names and passwords from FILE, as from a netrc file.
    #[arg(long, value_name = "FILE")]
    pub(crate) netrc_file: Option<PathBuf>,

    /// Ask for compressed bodies (br, gzip, zstd) and take the compression off.
    ///
    /// Lengths, files and hashes are then those of what comes out.
    #[arg(long)]
    pub(crate) compressed: bool,

    /// Send cookies: NAME=VALUE; …, or those of a file.
    ///
    /// As curl's option: DATA without = names a file of cookies (cookies.txt). With a file, cookies
    /// that servers set are sent, too, as with --cookie-jar.
    #[arg(short = 'b', long, value_name = "DATA")]
    pub(crate) cookie: Vec<String>,

    /// Keep the cookies that servers set, and write them to FILE at the end.
    #[arg(short = 'c', long, value_name = "FILE")]
    pub(crate) cookie_jar: Option<PathBuf>,
}

fn parse_method(text: &str) -> Result<Method, String> {
    Method::from_bytes(text.as_bytes()).map_err(|_| "expected a method such as PUT".to_string())
}
