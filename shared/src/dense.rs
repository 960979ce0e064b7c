//! What a JSON text would be in memory, known before it is parsed: eight megabytes of `[{},{},…]`
//! are a gigabyte of objects.

/// What an object, a list and each further entry of one take, at most: the standard library's map
/// allocates eleven entries with the first, its vector four and then twice as many each time.
const OBJECT_BYTES: usize = 656;
const LIST_BYTES: usize = 144;
const ENTRY_BYTES: usize = 144;

/// Bytes that the structure of a JSON text takes when it is parsed to values, at most, beside the
/// text itself.
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
