//! A TCP proxy: what comes to its address is carried to another one, and what that answers, back.
//!
//!     cargo run -p goby-examples --bin tcp_proxy 127.0.0.1:7001 127.0.0.1:7000
//!
//! The bytes do not pass through the program: the system moves them from socket to socket. In Go:
//!
//! ```go
//! func serve(client net.Conn, upstream string) error {
//!     defer client.Close()
//!     dialer := net.Dialer{Timeout: 10 * time.Second}
//!     server, err := dialer.Dial("tcp", upstream)
//!     if err != nil {
//!         return err
//!     }
//!     defer server.Close()
//!     half := func(to, from net.Conn) error {
//!         _, err := io.Copy(to, from)
//!         to.(*net.TCPConn).CloseWrite()
//!         return err
//!     }
//!     errs := make(chan error, 1)
//!     go func() { errs <- half(client, server) }()
//!     return errors.Join(half(server, client), <-errs)
//! }
//! ```

use std::io;
use std::time::Duration;

use goby::io::copy_bidirectional;
use goby::net::{Dialer, TcpListener, TcpStream};
use goby::{go, time};

fn serve(client: TcpStream, upstream: &str) -> io::Result<(u64, u64)> {
    let server = Dialer::new().timeout(Duration::from_secs(10)).dial(upstream)?;
    copy_bidirectional(&client, &server)
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(addr), Some(upstream)) = (args.next(), args.next()) else {
        eprintln!("usage: tcp_proxy ADDR UPSTREAM");
        std::process::exit(2);
    };
    let listener = TcpListener::bind(&addr)?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        let Ok(client) = client.inspect_err(|error| eprintln!("accept: {error}")) else {
            time::sleep(Duration::from_millis(100)); // no descriptor is free, say
            continue;
        };
        let upstream = upstream.clone();
        go(move || match serve(client, &upstream) {
            Ok((there, back)) => println!("{there} bytes there, {back} bytes back"),
            Err(error) => eprintln!("{upstream}: {error}"),
        });
    }
    Ok(())
}
