//! An engine with an accent: it is Docker, but for some words of what is asked and answered. Each word
//! stands for another of the same length, so that no length that was announced becomes wrong.

/// Words and what stands for them.
pub(super) type Words = Vec<(Vec<u8>, Vec<u8>)>;

/// One direction of one connection.
pub(super) struct Accent {
    words: Words,
    /// The end of what came, which may be the beginning of a word.
    held: Vec<u8>,
}

impl Accent {
    /// # Panics
    /// When a word has another length than what stands for it.
    pub(super) fn new(words: Words) -> Self {
        assert!(words.iter().all(|(word, other)| word.len() == other.len()), "{words:?}");
        Self { words, held: Vec::new() }
    }

    /// What goes on of what has come.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        for (word, other) in &self.words {
            let mut from = 0;
            while let Some(at) = memchr::memmem::find(&self.held[from..], word) {
                self.held[from + at..from + at + word.len()].copy_from_slice(other);
                from += at + word.len();
            }
        }
        let begun = |(word, _): &(Vec<u8>, Vec<u8>)| {
            (1..word.len()).rev().find(|&length| self.held.ends_with(&word[..length]))
        };
        let kept = self.words.iter().filter_map(begun).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// What is left at the end.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}
