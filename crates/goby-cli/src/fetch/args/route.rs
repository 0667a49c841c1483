//! Options of trust and route: whom a request goes to, over what way, and who is believed to be
//! there.

use std::path::PathBuf;

use clap::Args;

use super::super::resolve::Resolve;

#[derive(Debug, Args)]
#[command(next_help_heading = "Trust and route")]
pub(crate) struct RouteArgs {
    /// Go through the proxy at URL ("" is none) [default: the environment's]
    ///
    /// As curl's option. The scheme of URL is http (also without one), socks5 or socks5h; a user
    /// name and password in it are sent to the proxy. By default, HTTP_PROXY, HTTPS_PROXY and
    /// ALL_PROXY name proxies, in capitals or small letters; localhost and loopback addresses are
    /// then asked directly.
    #[arg(short = 'x', long, value_name = "URL", conflicts_with = "demo")]
    pub(crate) proxy: Option<String>,

    /// Ask these hosts without a proxy [default: NO_PROXY of the environment]
    ///
    /// As curl's option: names, each also for all names below it, addresses, networks (10.0.0.0/8),
    /// all but networks also with a port; commas stand between them. * is all hosts.
    #[arg(long, value_name = "HOSTS")]
    pub(crate) noproxy: Option<String>,

    /// Trust the certificates in FILE (PEM), in place of the system's roots.
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// Show servers that ask for one the certificate in FILE (PEM).
    ///
    /// The chain of its issuers follows it there. FILE also has its private key, unless --key names
    /// another.
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,

    /// Take the private key of --cert from FILE (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Accept every certificate: of anybody, for any name.
    ///
    /// Whoever is on the way to a server can then read and change everything. To trust a server
    /// with a certificate of its own making, name that with --cacert.
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,

    /// Connect to ADDR for HOST and PORT, in place of looking the name up.
    ///
    /// As curl's option. Commas stand between several addresses, which are tried in turn. It can be
    /// given several times. Headers and certificates still have the name.
    #[arg(long, value_name = "HOST:PORT:ADDR", value_parser = Resolve::parse)]
    pub(crate) resolve: Vec<Resolve>,

    /// Connect to IPv4 addresses only.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Connect to IPv6 addresses only.
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,

    /// Connect to the Unix socket at PATH, whatever the hosts of the URLs are.
    ///
    /// There are no proxies then.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["proxy", "resolve", "ipv4", "ipv6"])]
    pub(crate) unix_socket: Option<PathBuf>,
}
