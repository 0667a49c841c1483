//! A client of HTTP/2 that sends frames as it likes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use goby::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The setting of how much of a body may be sent unasked.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Error codes.
pub(crate) const INTERNAL_ERROR: u32 = 2;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a reset.
    pub(crate) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

pub(crate) struct Frames {
    pub(crate) socket: TcpStream,
}

impl Frames {
    /// Connects, and sends what a client begins with.
    pub(crate) fn connect(addr: SocketAddr, settings: &[(u16, u32)]) -> Frames {
        let mut frames = Frames { socket: TcpStream::connect(addr).unwrap() };
        frames.socket.set_deadline(Some(Instant::now() + Duration::from_secs(100)));
        frames.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        frames.send(SETTINGS, 0, 0, &payload).unwrap();
        frames
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.socket.write_all(&frame)
    }

    /// Asks for `path`. A body follows, unless `END_STREAM` is among the flags.
    pub(crate) fn ask(&mut self, stream: u32, path: &str, flags: u8) -> std::io::Result<()> {
        self.send(HEADERS, flags | END_HEADERS, stream, &head(path))
    }

    /// Receives a frame; none at the end.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Receives frames up to one of this kind, which has to come, and answers pings.
    pub(crate) fn receive_kind(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.receive().unwrap_or_else(|| panic!("the connection ended before a frame of kind {kind}"));
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.send(PING, ACK, 0, &frame.payload).unwrap();
            }
            if frame.kind == kind && !(kind == PING && frame.flags & ACK == 0) {
                return frame;
            }
        }
    }

    /// Waits until the server has taken all that was sent.
    pub(crate) fn settle(&mut self) {
        assert!(self.is_alive());
    }

    /// Does as `settle`, and returns whether the server still serves the connection.
    pub(crate) fn is_alive(&mut self) -> bool {
        if self.send(PING, 0, 0, b"settled?").is_err() {
            return false;
        }
        std::iter::from_fn(|| self.receive()).any(|frame| frame.kind == PING && frame.flags & ACK != 0)
    }

    /// Receives the response to `stream`: its head as it is encoded, and its body.
    pub(crate) fn response(&mut self, stream: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        loop {
            let frame = self.receive().expect("the connection ended before the response");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS => head.extend(frame.payload),
                DATA => body.extend(frame.payload),
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                return (head, body);
            }
        }
    }

    /// Receives frames until the server closes the connection. Returns the last ones.
    pub(crate) fn drain(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.receive()).collect()
    }
}

/// The fields of a `GET` for `path`, encoded without compression.
pub(crate) fn head(path: &str) -> Vec<u8> {
    // From the static table: the method GET, the scheme http, and the names of path and authority.
    let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    head.extend([0x01, 4]);
    head.extend(b"test");
    head
}

/// How a response with this status begins, as hyper encodes it.
pub(crate) fn has_status(head: &[u8], status: u16) -> bool {
    let index = [200, 204, 206, 304, 400, 404, 500].iter().position(|known| *known == status).unwrap();
    head[0] == 0x88 + u8::try_from(index).unwrap()
}
