//! Asking a proxy for a way through to a server: `CONNECT` (RFC 9110, section 9.3.6), and SOCKS 5
//! (RFC 1928, RFC 1929).
//!
//! What the proxy says has to end where the way begins: more than that is refused, as the server
//! speaks only when it is spoken to.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;

use goby::block_on;
use http::StatusCode;

use super::proxy::Upstream;
use crate::stream::Link;

/// How long the head of the answer may be.
const MAX_HEAD: usize = 64 << 10;

/// Asks for a way to `host` (as a URL writes it) and `port`. The socket's limits end the wait.
pub(super) fn open(upstream: &Upstream, link: &Link, host: &str, port: u16) -> io::Result<()> {
    if upstream.socks { open_socks(upstream, link, host, port) } else { open_http(upstream, link, host, port) }
}

fn open_http(upstream: &Upstream, link: &Link, host: &str, port: u16) -> io::Result<()> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n").into_bytes();
    if let Some(authorization) = &upstream.authorization {
        request.extend_from_slice(b"proxy-authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    write_all(link, &request)?;
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    let end = loop {
        let n = read(link, &mut piece)?;
        let seen = head.len().saturating_sub(3);
        head.extend_from_slice(&piece[..n]);
        if let Some(at) = head[seen..].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break seen + at + 4;
        }
        if head.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of its answer is too long"));
        }
    };
    let status = status(&head).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is not HTTP"))?;
    if !status.is_success() {
        return Err(io::Error::other(format!("it answered {status}")));
    }
    if head.len() > end {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it sent more than its answer"));
    }
    Ok(())
}

/// The status in the first line of a head.
fn status(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', digits @ ..] = rest else { return None };
    let (digits, after) = digits.split_at_checked(3)?;
    // The reason may be left out, and the space before it.
    matches!(after.first()?, b' ' | b'\r').then(|| StatusCode::from_bytes(digits).ok())?
}

/// The version of SOCKS, and what it knows of: ways to log in, and forms of an address.
const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

fn open_socks(upstream: &Upstream, link: &Link, host: &str, port: u16) -> io::Result<()> {
    let login = if upstream.credentials.is_some() { PASSWORD } else { NO_LOGIN };
    write_all(link, &[VERSION, 1, login])?;
    let [version, chosen] = read_exact(link)?;
    if version != VERSION {
        return Err(io::Error::other("its answer is not SOCKS 5"));
    }
    if chosen != login {
        let why = if login == PASSWORD { "it takes no user name" } else { "it wants a user name" };
        return Err(io::Error::other(why));
    }
    if let Some((user, password)) = &upstream.credentials {
        // Their lengths have been checked.
        let len = |text: &[u8]| text.len().min(255) as u8;
        let mut request = vec![1, len(user)];
        request.extend_from_slice(user);
        request.push(len(password));
        request.extend_from_slice(password);
        write_all(link, &request)?;
        let [_, refused] = read_exact(link)?;
        if refused != 0 {
            return Err(io::Error::other("it does not take this user name and password"));
        }
    }
    let mut request = vec![VERSION, CONNECT, 0];
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        Err(_) => {
            let len = u8::try_from(host.len()).map_err(|_| io::Error::other("the name of the host is too long"))?;
            request.extend([NAME, len]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    write_all(link, &request)?;
    let [_, refused, _, kind] = read_exact(link)?;
    if refused != 0 {
        return Err(io::Error::other(refusal(refused)));
    }
    // The address that it has bound, which is of no use, and its port.
    let len = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(read_exact::<1>(link)?[0]),
        _ => return Err(io::Error::other("its answer is not SOCKS 5")),
    };
    for _ in 0..len + 2 {
        read_exact::<1>(link)?;
    }
    Ok(())
}

fn refusal(code: u8) -> &'static str {
    match code {
        2 => "it does not allow this connection",
        3 => "it finds the network unreachable",
        4 => "it finds the host unreachable",
        5 => "the host refused its connection",
        6 => "it waited for too long",
        _ => "it failed",
    }
}

fn write_all(link: &Link, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = block_on(poll_fn(|cx| link.poll_write(cx, bytes)))?;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Reads what comes, at least a byte.
fn read(link: &Link, buf: &mut [u8]) -> io::Result<usize> {
    match block_on(poll_fn(|cx| link.poll_read(cx, buf)))? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
        n => Ok(n),
    }
}

fn read_exact<const N: usize>(link: &Link) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut len = 0;
    while len < N {
        len += read(link, &mut bytes[len..])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn the_first_line_has_the_status() {
        let check =
            |head: &str, code: Option<u16>| assert_eq!(status(head.as_bytes()).map(|s| s.as_u16()), code, "{head:?}");
        check("HTTP/1.1 200 Connection established\r\n\r\n", Some(200));
        check("HTTP/1.0 200\r\n\r\n", Some(200));
        check("HTTP/1.1 407 \r\n\r\n", Some(407));
        for head in ["HTTP/2 200 OK\r\n", "HTTP/1.1 2000\r\n", "HTTP/1.1  200 OK", "HTTP/1.1 20", "ICY 200 OK\r\n", ""]
        {
            check(head, None);
        }
    }
}
