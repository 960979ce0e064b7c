//! Decodes server-sent events. Any chunking of the same bytes gives the same events.
//!
//! Lines end with LF, CR or CRLF. A byte-order mark is skipped. Comments and unknown fields are
//! ignored. Bad UTF-8 becomes U+FFFD. The `event:` name is not kept: the Responses API has
//! everything in the data (codex protocol, D.2).

use crate::limits;

/// Takes bytes and gives the data of whole events.
#[derive(Default)]
pub struct Decoder {
    /// The unfinished line.
    line: Vec<u8>,
    /// The data of the unfinished event. `None`: no `data` line yet.
    data: Option<Vec<u8>>,
    /// The last byte was a CR, so an LF that comes next belongs to it.
    after_cr: bool,
    /// The first line, which may begin with a byte-order mark, was read.
    started: bool,
}

/// One event is larger than [`limits::SSE_EVENT_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Decoder {
    /// # Errors
    /// If an event is larger than its bound. Do not use the decoder afterwards.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, TooLarge> {
        let mut events = Vec::new();
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            self.grow(&bytes[..end])?;
            let was_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if was_cr {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if let Some(event) = self.end_line()? {
                events.push(event);
            }
        }
        self.grow(bytes)?;
        Ok(events)
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        if held + bytes.len() > limits::SSE_EVENT_BYTES {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<String>, TooLarge> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !self.started {
            self.started = true;
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            let data = self.data.take();
            return Ok(data.map(|data| String::from_utf8_lossy(&data).into_owned()));
        }
        if let Some(value) = line.strip_prefix(b"data") {
            let value = match value.strip_prefix(b":") {
                Some(value) => value.strip_prefix(b" ").unwrap_or(value),
                None if value.is_empty() => value,
                None => return Ok(None),
            };
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        chunks.iter().flat_map(|chunk| decoder.feed(chunk).expect("small")).collect()
    }

    #[test]
    fn line_endings_byte_order_mark_and_several_data_lines() {
        let text =
            "\u{FEFF}data: a\r\n\r\n: comment\rdata:b\rdata: c\r\revent: x\ndata\n\nid: 1\n\n";
        assert_eq!(all(&[text.as_bytes()]), ["a", "b\nc", ""]);
    }

    #[test]
    fn an_event_over_its_bound_is_refused() {
        let mut decoder = Decoder::default();
        let chunk = vec![b'x'; 1 << 20];
        let fed = (0..17).try_for_each(|_| decoder.feed(&chunk).map(drop));
        assert_eq!(fed, Err(TooLarge));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(bytes in prop::collection::vec(prop::sample::select(b"data: x\r\n\xEF\xBB\xBF".to_vec()), 0..200), cuts in prop::collection::vec(0usize..200, 0..8)) {
            let whole = all(&[&bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts { chunks.push(&bytes[from..cut]); from = cut; }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(whole, all(&chunks));
        }
    }
}
