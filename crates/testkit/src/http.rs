//! A small HTTP/1.1 client over a unix socket: the Engine API with nothing in between.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, de-chunked.
    pub body: Vec<u8>,
}

impl Response {
    /// First header field called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the body when it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("status {}, not JSON ({error}): {}", self.status, self.text()),
        }
    }

    /// Panics unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert!(self.status == status, "expected {status}, got {}: {}", self.status, self.text());
        self
    }

    /// The `message` of an error answer.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Connection {
    /// Connects to the unix socket at `path`; every read gives up after 60 s.
    pub fn open(path: &Path) -> Result<Connection> {
        let stream = UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&mut self, method: &str, target: &str, body: Option<&Value>) -> Result<Response> {
        self.send_with(method, target, body, &[])
    }

    /// As [`Connection::send`], with further header fields.
    pub fn send_with(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        self.write_head(method, target, body, headers)?;
        self.answer(method)
    }

    /// Sends a request whose body, said to be JSON, need not be.
    pub fn send_text(&mut self, method: &str, target: &str, body: Option<&str>) -> Result<Response> {
        self.write_text(method, target, body, &[])?;
        self.answer(method)
    }

    fn answer(&mut self, method: &str) -> Result<Response> {
        let (status, headers) = self.read_head()?;
        let body = self.read_body(method, status, &headers)?;
        Ok(Response { status, headers, body })
    }

    /// Sends a request and hands the connection over once the head of the answer is read.
    /// Chunked framing, if any, is left in the stream: use [`Stream::chunk`] then.
    pub fn stream(
        mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Stream> {
        self.write_head(method, target, body, headers)?;
        let (status, headers) = self.read_head()?;
        Ok(Stream { status, headers, reader: self.stream })
    }

    fn write_head(&mut self, method: &str, target: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Result<()> {
        self.write_text(method, target, body.map(Value::to_string).as_deref(), headers)
    }

    fn write_text(&mut self, method: &str, target: &str, body: Option<&str>, headers: &[(&str, &str)]) -> Result<()> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: docker\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            let length = body.len();
            request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"));
        } else if method == "POST" || method == "PUT" {
            request.push_str("Content-Length: 0\r\n");
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or(""));
        self.stream.get_mut().write_all(request.as_bytes())?;
        Ok(())
    }

    fn read_head(&mut self) -> Result<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("not a status line: {first:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').context("header field without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).context("read the answer's head")? == 0 {
            bail!("the daemon closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn read_body(&mut self, method: &str, status: u16, headers: &[(String, String)]) -> Result<Vec<u8>> {
        let field = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Ok(Vec::new());
        }
        let mut body = Vec::new();
        if let Some(length) = field("content-length") {
            body.resize(length.parse()?, 0);
            self.stream.read_exact(&mut body).context("read the body")?;
        } else if field("transfer-encoding").is_some_and(|value| value == "chunked") {
            while let Some(chunk) = read_chunk(&mut self.stream)? {
                body.extend(chunk);
            }
        } else {
            self.stream.read_to_end(&mut body).context("read the body")?;
        }
        Ok(body)
    }
}

fn read_chunk(reader: &mut BufReader<UnixStream>) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line).context("read a chunk's size")?;
    let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)
        .with_context(|| format!("bad chunk size {line:?}"))?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).context("read a chunk")?;
    chunk.truncate(size);
    Ok(if size == 0 { None } else { Some(chunk) })
}

/// An answer whose body is still being sent, or a hijacked connection.
#[derive(Debug)]
pub struct Stream {
    /// Status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    reader: BufReader<UnixStream>,
}

impl Stream {
    /// First header field called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Next chunk of a chunked answer; `None` at its end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        read_chunk(&mut self.reader)
    }

    /// Next multiplexed frame: stream number (1 stdout, 2 stderr) and payload; `None` at the end.
    pub fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut header = [0; 8];
        match self.reader.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut payload = vec![0; length as usize];
        self.reader.read_exact(&mut payload).context("read a frame")?;
        Ok(Some((header[0], payload)))
    }

    /// Everything until the end, as (stdout, stderr).
    pub fn frames(&mut self) -> Result<(String, String)> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((stream, payload)) = self.frame()? {
            if stream == 2 { err.extend(payload) } else { out.extend(payload) }
        }
        Ok((String::from_utf8_lossy(&out).into(), String::from_utf8_lossy(&err).into()))
    }

    /// Raw bytes until the end.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes to the hijacked connection.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    /// Half-closes the connection: end of input.
    pub fn end_input(&self) -> Result<()> {
        Ok(self.reader.get_ref().shutdown(std::net::Shutdown::Write)?)
    }
}
