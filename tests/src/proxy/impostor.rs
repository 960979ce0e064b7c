//! How an impostor gets into the sandbox's place: the container that was asked for is made and
//! started, and the sandbox in it waits for a handoff for ever, because attaching to it is answered
//! here.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::Impostor;

/// Reads a request to the end of its head, and whatever came with it.
pub(super) async fn head(client: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes)
}

/// Answers an attach: what the impostor writes goes out as the container's stdout.
pub(super) async fn attached(mut client: UnixStream, impostor: Impostor) {
    let upgraded = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                     Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    if client.write_all(upgraded).await.is_err() {
        return;
    }
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let playing = tokio::spawn(impostor(theirs));
    let (mut from_impostor, mut to_impostor) = tokio::io::split(ours);
    let (mut from_host, mut to_host) = client.into_split();
    let down = async {
        // Ends when the host does, or when the impostor has gone.
        drop(tokio::io::copy(&mut from_host, &mut to_impostor).await);
        drop(to_impostor.shutdown().await);
    };
    let up = async {
        let mut bytes = vec![0; 1 << 15];
        while let Ok(read @ 1..) = from_impostor.read(&mut bytes).await {
            let length = u32::try_from(read).unwrap_or(0).to_be_bytes();
            let frame = [&[1, 0, 0, 0], &length[..], &bytes[..read]].concat();
            if to_host.write_all(&frame).await.is_err() {
                break;
            }
        }
        drop(to_host.shutdown().await);
    };
    tokio::join!(down, up);
    playing.abort();
}
