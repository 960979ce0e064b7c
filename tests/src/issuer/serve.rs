//! On the wire: a request is answered, or fails as a fault says.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::AsyncWriteExt as _;

use super::book::Book;
use super::fault::Way;
use super::{Asked, route};
use crate::wire::Service;
use crate::wire::http::{self, Buffer, Connection};
use crate::wire::plain::Plain;
use crate::wire::record::Recorded;

/// What answers on each connection.
#[derive(Clone)]
pub(super) struct Answering(pub(super) Arc<Mutex<Book>>);

impl Service for Answering {
    async fn serve(self, mut connection: impl Connection) -> io::Result<()> {
        let mut buffer = Buffer::default();
        while let Some(request) = http::read(&mut connection, &mut buffer).await? {
            let is_last = request.header("connection").is_some_and(|it| it == "close");
            let (plain, way, delay_ms) = self.decide(request);
            if delay_ms > 0 {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            }
            match way {
                Way::Whole => http::plain(&mut connection, &plain).await?,
                Way::Half => {
                    let mut bytes = http::plain_bytes(&plain);
                    bytes.truncate(bytes.len() - plain.body.len() / 2);
                    connection.write_all(&bytes).await?;
                    break;
                }
                Way::Close => break,
                Way::Reset => return connection.tcp().set_zero_linger(),
                Way::Silence => {
                    http::gone(&mut connection).await;
                    break;
                }
            }
            if is_last {
                break;
            }
        }
        connection.shutdown().await
    }
}

impl Answering {
    fn decide(&self, request: Recorded) -> (Plain, Way, u64) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = route::what(&request);
        book.watch(what, &request);
        let fault = book.next_fault(what);
        let plain = match &fault {
            Some(fault) if !fault.does_it() => fault.plain(&request),
            done => book.answer(what, &request, done.as_ref()),
        };
        let way = fault.as_ref().map_or(Way::Whole, |fault| fault.way());
        let status = if matches!(way, Way::Whole | Way::Half) { plain.status } else { 0 };
        let delay_ms = fault.as_ref().map_or(0, |fault| fault.delay_ms());
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(book.now()));
        book.asked.push(Asked { what, request: Recorded { status, ..request } });
        (plain.with("date", &date), way, delay_ms)
    }
}
