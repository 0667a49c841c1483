//! A second reading of HTTP/1.1, by RFC 9112 alone: slow, plain and strict. It takes only what has
//! one meaning; all else is [`End::Refused`].

/// A message that was read.
#[derive(Debug)]
pub(crate) struct Message {
    /// The first line without its end.
    pub(crate) line: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// How its body ends.
    pub(crate) end: End,
    /// There are fields behind its body.
    has_trailers: bool,
}

/// How a message or a stream of them ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    /// The bytes end before it does.
    Truncated,
    /// It has no meaning, or more than one.
    Refused,
    /// It may be refused, and is the last one: trailers with a line that ends without a carriage
    /// return. hyper takes some, and drops what follows up to a proper empty line.
    Taken,
}

/// What is known before a response is read.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    /// It answers `HEAD`.
    pub(crate) is_head: bool,
}

impl Message {
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(this, _)| this == name).map(|(_, value)| &value[..]).collect()
    }

    /// The words of the first line.
    pub(crate) fn words(&self) -> Vec<&[u8]> {
        self.line.splitn(3, |byte| *byte == b' ').collect()
    }

    /// Whether a comma-separated header names `word`.
    pub(crate) fn names(&self, header: &str, word: &str) -> bool {
        let words = self.values(header).into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        words.map(<[u8]>::trim_ascii).any(|this| this.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn is_old(&self) -> bool {
        self.line.ends_with(b"HTTP/1.0") || self.line.starts_with(b"HTTP/1.0")
    }
}

/// The requests of a connection.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) all: Vec<Message>,
    /// How they end.
    pub(crate) end: End,
    /// The head behind them that has no meaning.
    pub(crate) refused: Option<Message>,
}

/// Reads all requests of a connection. What comes behind a message that is not complete, or that
/// ends the connection, is not read.
pub(crate) fn requests(mut bytes: &[u8]) -> Requests {
    let mut all = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or(bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
        if bytes.is_empty() {
            return Requests { all, end: End::Complete, refused: None };
        }
        let mut message = match head(&mut bytes) {
            Ok(message) => message,
            Err(end) => return Requests { all, end, refused: None },
        };
        let Some(length) = request_length(&message) else {
            return Requests { all, end: End::Refused, refused: Some(message) };
        };
        body(&mut bytes, length, &mut message);
        let is_last = message.names("connection", "close")
            || (message.is_old() && !message.names("connection", "keep-alive"))
            || message.line.starts_with(b"CONNECT ")
            || message.has_trailers
            // It may be read by its coding, and nothing behind it (section 6.1).
            || !message.values("content-length").is_empty() && !message.values("transfer-encoding").is_empty();
        let end = message.end;
        all.push(message);
        if is_last || end != End::Complete {
            return Requests { all, end, refused: None };
        }
    }
}

/// Reads a response, with the interim ones before it. The rest is returned, too.
pub(crate) fn response(mut bytes: &[u8], question: Question) -> Result<(Message, &[u8]), End> {
    loop {
        let mut message = head(&mut bytes)?;
        let status = status(&message).ok_or(End::Refused)?;
        if (100..200).contains(&status) {
            // 101 hands the connection over.
            if status == 101 {
                return Err(End::Refused);
            }
            continue;
        }
        let is_bare = question.is_head || status == 204 || status == 304;
        // Read in any case: a head that says two things is refused.
        let length = response_length(&message).ok_or(End::Refused)?;
        body(&mut bytes, if is_bare { Length::Exact(0) } else { length }, &mut message);
        return Ok((message, bytes));
    }
}

/// The status of a response, if its first line is one.
pub(crate) fn status(message: &Message) -> Option<u16> {
    let rest = message.line.strip_prefix(b"HTTP/1.1 ").or(message.line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, reason) = (rest.get(..3)?, &rest[3..]);
    let is_fine = digits.iter().all(u8::is_ascii_digit) && (reason.is_empty() || reason[0] == b' ');
    let is_text = reason.iter().all(|byte| is_text(*byte));
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_fine && is_text && status >= 100).then_some(status)
}

enum Length {
    Exact(u64),
    Chunked,
    ToTheEnd,
}

fn request_length(message: &Message) -> Option<Length> {
    let words = message.words();
    let is_version = matches!(words.get(2), Some(&b"HTTP/1.1" | &b"HTTP/1.0"));
    let is_target = !words.get(1)?.is_empty() && words[1].iter().all(|byte| !matches!(byte, 0..=b' ' | 0x7F));
    let is_method = !words[0].is_empty() && words[0].iter().all(|byte| is_token(*byte));
    if !is_version || !is_target || !is_method {
        return None;
    }
    let hosts = message.values("host").len();
    if hosts > 1 || (hosts == 0 && !message.is_old()) {
        return None;
    }
    match message.values("transfer-encoding")[..] {
        [] => content_length(message).map(|length| Length::Exact(length.unwrap_or(0))),
        [coding] if !message.is_old() && coding.eq_ignore_ascii_case(b"chunked") => Some(Length::Chunked),
        _ => None,
    }
}

fn response_length(message: &Message) -> Option<Length> {
    match message.values("transfer-encoding")[..] {
        [] => content_length(message).map(|length| length.map_or(Length::ToTheEnd, Length::Exact)),
        // Beside a length it is an attack, or a fault.
        [coding]
            if !message.is_old()
                && coding.eq_ignore_ascii_case(b"chunked")
                && message.values("content-length").is_empty() =>
        {
            Some(Length::Chunked)
        }
        _ => None,
    }
}

/// The length that the headers say; all of them have to say the same.
fn content_length(message: &Message) -> Option<Option<u64>> {
    let mut length = None;
    for value in message.values("content-length") {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let value: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
        // hyper keeps the two largest numbers for itself.
        if value >= u64::MAX - 1 || length.is_some_and(|length| length != value) {
            return None;
        }
        length = Some(value);
    }
    Some(length)
}

/// Takes a line. It ends with a line feed, as section 2.2 allows, with a carriage return before it
/// or not.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], End> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(End::Truncated)?;
    let line = &bytes[..end];
    *bytes = &bytes[end + 1..];
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

fn head(bytes: &mut &[u8]) -> Result<Message, End> {
    // One that is not complete need not be judged.
    let mut rest = *bytes;
    while !line(&mut rest)?.is_empty() {}
    let first = line(bytes)?.to_vec();
    let headers = fields(bytes, b"")?;
    Ok(Message { line: first, headers, body: Vec::new(), end: End::Complete, has_trailers: false })
}

/// Takes fields up to the empty line. `end` is what lines have before their line feed at least.
fn fields(bytes: &mut &[u8], end: &[u8]) -> Result<Vec<(String, Vec<u8>)>, End> {
    let mut fields = Vec::new();
    loop {
        let before = *bytes;
        let field = line(bytes)?;
        if !before[..before.len() - bytes.len() - 1].ends_with(end) {
            return Err(End::Taken);
        }
        if field.is_empty() {
            return Ok(fields);
        }
        let colon = field.iter().position(|byte| *byte == b':').ok_or(End::Refused)?;
        let (name, value) = (&field[..colon], trimmed(&field[colon + 1..]));
        // So a line that continues the last one is refused, and a space before the colon.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !value.iter().all(|byte| is_text(*byte)) {
            return Err(End::Refused);
        }
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
}

/// Takes a body, and notes how it ends.
fn body(bytes: &mut &[u8], length: Length, message: &mut Message) {
    match length {
        Length::ToTheEnd => message.body.extend_from_slice(std::mem::take(bytes)),
        Length::Exact(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let (body, rest) = bytes.split_at(length.min(bytes.len()));
            message.body.extend_from_slice(body);
            *bytes = rest;
            if body.len() < length {
                message.end = End::Truncated;
            }
        }
        Length::Chunked => match chunks(bytes, &mut message.body) {
            Ok(trailers) => message.has_trailers = !trailers.is_empty(),
            Err(end) => message.end = end,
        },
    }
}

/// Takes chunks, and returns the trailers behind them.
fn chunks(bytes: &mut &[u8], into: &mut Vec<u8>) -> Result<Vec<(String, Vec<u8>)>, End> {
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(End::Truncated)?;
        // Here a line feed alone is refused.
        let line = bytes[..end].strip_suffix(b"\r").ok_or(End::Refused)?;
        *bytes = &bytes[end + 1..];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, rest) = line.split_at(digits);
        let rest = trimmed(rest);
        let is_extension = rest.first().is_none_or(|byte| *byte == b';') && !rest.contains(&b'\r');
        let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.filter(|_| is_extension).ok_or(End::Refused)?;
        if size == 0 {
            return fields(bytes, b"\r");
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        into.extend_from_slice(&bytes[..size.min(bytes.len())]);
        *bytes = bytes.get(size..).ok_or(End::Truncated)?;
        match bytes {
            [b'\r', b'\n', rest @ ..] => *bytes = rest,
            [] | [b'\r'] => return Err(End::Truncated),
            _ => return Err(End::Refused),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Without the spaces and tabs around it.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Whether a value may contain it.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}
