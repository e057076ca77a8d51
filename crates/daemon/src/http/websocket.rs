//! WebSocket (RFC 6455), the server's side: a hijacked connection whose bytes
//! travel in frames.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::hijack::Channel;

/// Appended to the client's key, RFC 6455 section 1.3.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes between a connection and whoever uses it.
const BUFFER: usize = 16 << 10;
/// Longest frame a client may send: input is typed or piped, not uploaded.
const FRAME: u64 = 1 << 20;
/// Longest control frame, RFC 6455 section 5.5.
const CONTROL: u64 = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Checks a request and makes the headers of the answer.
pub(super) fn accept(headers: &HeaderMap) -> Result<HeaderMap, Failure> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let names = |list: &str, word: &str| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
    if !names(text(UPGRADE), "websocket") || !names(text(CONNECTION), "upgrade") {
        return Err(Failure::invalid("not websocket protocol"));
    }
    let key = text(SEC_WEBSOCKET_KEY).trim();
    if key.is_empty() {
        return Err(Failure::invalid("missing Sec-WebSocket-Key"));
    }
    if text(SEC_WEBSOCKET_VERSION).trim() != "13" {
        return Err(Failure::invalid("missing or bad WebSocket Version"));
    }
    let protocol = text(SEC_WEBSOCKET_PROTOCOL).trim();
    if protocol.contains(',') {
        return Err(Failure::invalid("missing or bad WebSocket-Protocol"));
    }
    let digest = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
    let mut answer = HeaderMap::new();
    let accept =
        HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).map_err(|e| Failure::internal(e.to_string()))?;
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = headers.get(SEC_WEBSOCKET_PROTOCOL).filter(|_| !protocol.is_empty()) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    Ok(answer)
}

/// Puts frames around what goes over a connection; `binary` or text.
pub(super) fn wrap(channel: Channel, binary: bool) -> Channel {
    let Channel { reader, writer, gone } = channel;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (from, to) = tokio::io::split(ours);
    let (answers, questions) = mpsc::channel(4);
    tokio::spawn(async move {
        let _ = receive(reader, to, answers).await;
    });
    let (sends, over) = oneshot::channel::<()>();
    tokio::spawn(async move {
        // Also over when a close frame came: nothing may follow its answer.
        tokio::select! {
            _ = send(from, writer, questions, if binary { BINARY } else { TEXT }) => {}
            () = gone => {}
        }
        drop(sends);
    });
    let (reader, writer) = tokio::io::split(theirs);
    Channel { reader: Box::pin(reader), writer: Box::pin(writer), gone: Box::pin(async { _ = over.await }) }
}

/// From the client: the payload of data frames; control frames are answered.
async fn receive<R, W>(mut from: R, mut to: W, answers: mpsc::Sender<(u8, Vec<u8>)>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    while let Some((opcode, payload)) = frame(&mut from).await? {
        match opcode {
            CONTINUATION | TEXT | BINARY => to.write_all(&payload).await?,
            PING => _ = answers.send((PONG, payload)).await,
            PONG => {}
            CLOSE => {
                _ = answers.send((CLOSE, payload)).await;
                break;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    // What was sent is input's end.
    to.shutdown().await
}

/// To the client: what is written, and answers to its control frames.
async fn send<R, W>(mut from: R, mut to: W, mut answers: mpsc::Receiver<(u8, Vec<u8>)>, kind: u8) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0u8; BUFFER];
    loop {
        tokio::select! {
            biased;
            Some((opcode, payload)) = answers.recv() => {
                put(&mut to, opcode, &payload).await?;
                if opcode == CLOSE {
                    return to.shutdown().await;
                }
            }
            count = from.read(&mut buffer) => match count? {
                0 => {
                    // 1000: it is over as it should be.
                    put(&mut to, CLOSE, &1000u16.to_be_bytes()).await?;
                    return to.shutdown().await;
                }
                count => put(&mut to, kind, &buffer[..count]).await?,
            },
        }
    }
}

async fn put<W: AsyncWrite + Unpin>(to: &mut W, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65536 => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}

/// Reads a frame; `None` when the client is gone between two.
async fn frame<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0u8; 2];
    match from.read_exact(&mut head).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => _ = other?,
    }
    let (opcode, masked) = (head[0] & 0x0f, head[1] & 0x80 != 0);
    let length = match head[1] & 0x7f {
        126 => from.read_u16().await?.into(),
        127 => from.read_u64().await?,
        short => short.into(),
    };
    let limit = if opcode >= CLOSE { CONTROL } else { FRAME };
    // Extensions were not agreed on; clients must mask, section 5.1.
    if head[0] & 0x70 != 0 || !masked || length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut mask = [0u8; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0u8; usize::try_from(length).unwrap_or_default()];
    from.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((opcode, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    const ASKED: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    #[test]
    fn handshake() {
        let answer = accept(&headers(&ASKED)).unwrap();
        assert_eq!(answer["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!answer.contains_key("sec-websocket-protocol"));
        let with = |more| accept(&headers(&[&ASKED[..], more].concat()));
        assert_eq!(with(&[("sec-websocket-protocol", "chat")]).unwrap()["sec-websocket-protocol"], "chat");
        assert!(with(&[("sec-websocket-protocol", "a, b")]).is_err());
        for (left_out, _) in ASKED {
            let rest: Vec<_> = ASKED.iter().filter(|(name, _)| *name != left_out).copied().collect();
            assert!(accept(&headers(&rest)).is_err(), "without {left_out}");
        }
    }

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 1, 2, 3, 4];
        frame.extend(payload.iter().zip([1u8, 2, 3, 4].iter().cycle()).map(|(b, m)| b ^ m));
        frame
    }

    #[tokio::test]
    async fn frames_both_ways() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let (reader, writer) = tokio::io::split(server);
        let mut channel = wrap(
            Channel { reader: Box::pin(reader), writer: Box::pin(writer), gone: Box::pin(std::future::pending()) },
            true,
        );
        client.write_all(&[masked(TEXT, b"in"), masked(PING, b"?"), masked(BINARY, b"put")].concat()).await.unwrap();
        let mut input = [0u8; 5];
        channel.reader.read_exact(&mut input).await.unwrap();
        assert_eq!(&input, b"input");
        let mut pong = [0u8; 3];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x80 | PONG, 1, b'?']);
        channel.writer.write_all(&[b'x'; 300]).await.unwrap();
        let mut head = [0u8; 4];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head, [0x80 | BINARY, 126, 1, 44]);
        let mut data = [0u8; 300];
        client.read_exact(&mut data).await.unwrap();
        channel.writer.shutdown().await.unwrap();
        let mut close = [0u8; 4];
        client.read_exact(&mut close).await.unwrap();
        assert_eq!(close, [0x80 | CLOSE, 2, 3, 232]);
    }

    #[tokio::test]
    async fn nonsense_ends_the_input() {
        for bytes in [&[0x82u8, 0x01, b'x'][..], &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], &[0xf2, 0x80, 0, 0, 0, 0]] {
            assert!(frame(&mut &bytes[..]).await.is_err());
        }
        assert!(frame(&mut &b""[..]).await.unwrap().is_none());
    }
}
