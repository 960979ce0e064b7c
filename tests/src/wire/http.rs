//! HTTP/1.1 by hand: a server has to be able to break it at any byte.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plain::Plain;
use super::record::Recorded;

/// A connection, in the clear or not.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// The longest head and the longest body that are read.
const HEAD_BYTES: usize = 64 << 10;
const BODY_BYTES: usize = 64 << 20;

/// What is left in the buffer belongs to the next request.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    async fn fill(&mut self, from: &mut impl Connection) -> io::Result<usize> {
        from.read_buf(&mut self.0).await
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.0.split_off(bytes);
        std::mem::replace(&mut self.0, rest)
    }

    async fn exactly(&mut self, from: &mut impl Connection, bytes: usize) -> io::Result<Vec<u8>> {
        while self.0.len() < bytes {
            if self.fill(from).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take(bytes))
    }

    async fn until(
        &mut self,
        from: &mut impl Connection,
        mark: &[u8],
        most: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.0.windows(mark.len()).position(|window| window == mark) {
                return Ok(Some(self.take(at + mark.len())));
            }
            if self.0.len() > most {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.fill(from).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Reads one request; nothing where the connection ended between two.
pub(crate) async fn read(
    connection: &mut impl Connection,
    buffer: &mut Buffer,
) -> io::Result<Option<Recorded>> {
    if buffer.0.is_empty() && buffer.fill(connection).await? == 0 {
        return Ok(None);
    }
    let at: Instant = crate::clock::now();
    let Some(head) = buffer.until(connection, b"\r\n\r\n", HEAD_BYTES).await? else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or_default().split(' ');
    let method = request_line.next().unwrap_or_default().to_owned();
    let target = request_line.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let (body, answered) = (Vec::new(), None);
    let mut request = Recorded { at, answered, method, target, headers, body, status: 0 };
    if request.header("expect").is_some() {
        connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        request.body = chunked(connection, buffer).await?;
    } else if let Some(length) = request.header("content-length") {
        let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        if length > BODY_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        request.body = buffer.exactly(connection, length).await?;
    }
    Ok(Some(request))
}

async fn chunked(connection: &mut impl Connection, buffer: &mut Buffer) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = buffer.until(connection, b"\r\n", 1024).await?;
        let line = String::from_utf8(line.unwrap_or_default()).unwrap_or_default();
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if body.len() + size > BODY_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let chunk = buffer.exactly(connection, size + 2).await?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// Answers without a stream.
pub(crate) async fn plain(connection: &mut impl Connection, plain: &Plain) -> io::Result<()> {
    connection.write_all(&plain_bytes(plain)).await?;
    connection.flush().await
}

/// The same as bytes.
pub(crate) fn plain_bytes(plain: &Plain) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {} {}\r\n", plain.status, phrase(plain.status));
    for (name, value) in &plain.headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str(&format!("content-length: {}\r\n\r\n{}", plain.body.len(), plain.body));
    answer.into_bytes()
}

/// The head of a stream.
pub(crate) fn stream_head(content_type: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\
         cache-control: no-cache\r\nx-request-id: req_scripted\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// One chunk of a stream.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Ends a stream as it should end.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Waits until the other side has gone.
pub(crate) async fn gone(connection: &mut impl Connection) {
    let mut bytes = [0; 1024];
    while matches!(connection.read(&mut bytes).await, Ok(read) if read > 0) {}
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}
