//! `--resolve`: what to connect to for a host and a port.

use std::net::{IpAddr, SocketAddr};

/// One value of the option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolve {
    host: String,
    port: u16,
    ips: Vec<IpAddr>,
}

impl Resolve {
    /// Reads `HOST:PORT:ADDR`, with commas between addresses.
    ///
    /// # Errors
    /// In words, for clap to print behind the option's name.
    pub(crate) fn parse(text: &str) -> Result<Resolve, String> {
        Resolve::try_parse(text).ok_or_else(|| "expected HOST:PORT:ADDR, such as example.org:443:127.0.0.1".to_string())
    }

    fn try_parse(text: &str) -> Option<Resolve> {
        // Entries of curl that would expire begin with a plus. None expire here.
        let text = text.strip_prefix('+').unwrap_or(text);
        let host_end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':')?,
        };
        let (host, rest) = text.split_at_checked(host_end)?;
        let (port, addrs) = rest.strip_prefix(':')?.split_once(':')?;
        let bare = |addr: &str| addr.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let ips: Vec<IpAddr> = addrs.split(',').map(bare).collect::<Option<_>>()?;
        (!host.is_empty()).then_some(Resolve { host: host.to_string(), port: port.parse().ok()?, ips })
    }

    /// The host and port that it is for.
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Where to connect to.
    pub(crate) fn addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.ips.iter().map(|&ip| SocketAddr::new(ip, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_a_port_and_addresses() {
        let resolve = Resolve::parse("h.example:443:127.0.0.1,[::1],::2").unwrap();
        assert_eq!(resolve.host(), "h.example:443");
        let addrs: Vec<String> = resolve.addrs().map(|addr| addr.to_string()).collect();
        assert_eq!(addrs, ["127.0.0.1:443", "[::1]:443", "[::2]:443"]);
        assert_eq!(Resolve::parse("+[::1]:80:::2").unwrap().host(), "[::1]:80");
    }

    #[test]
    fn what_is_none() {
        for text in ["", "h", "h:80", "h:80:", "h:80:other.example", "h:x:127.0.0.1", ":80:127.0.0.1", "[::1:80:::1"] {
            assert!(Resolve::parse(text).is_err(), "{text:?}");
        }
    }
}
