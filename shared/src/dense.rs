//! How much memory a JSON text takes when it is parsed, known before it is: eight megabytes of
//! `[{},{},…]` become a gigabyte of objects.

/// The most bytes that an object, a list and each further entry take. The standard library's map
/// allocates room for eleven entries with the first one; its vector allocates four and then
/// doubles.
const OBJECT_BYTES: usize = 656;
const LIST_BYTES: usize = 144;
const ENTRY_BYTES: usize = 144;

/// The most bytes that the structure of a JSON text takes in memory, without its strings.
#[must_use]
pub fn structure_bytes(text: &[u8]) -> usize {
    let (mut bytes, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' if !is_string => bytes = bytes.saturating_add(OBJECT_BYTES),
            b'[' if !is_string => bytes = bytes.saturating_add(LIST_BYTES),
            b',' if !is_string => bytes = bytes.saturating_add(ENTRY_BYTES),
            _ => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structure_counts_and_text_does_not() {
        assert_eq!(structure_bytes(br#"[{"a":1,"b":"[{,\",{"},[]]"#), 656 + 2 * 144 + 2 * 144);
        assert_eq!(structure_bytes(br#""[[[,,,{{{""#), 0);
    }
}
