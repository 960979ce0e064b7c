//! How many values a JSON text holds, before it is parsed: eight megabytes of `[[],[],…]` would be
//! a hundred times as much in memory.

use airlock_shared::limits;

/// Whether a text from the sandbox may be parsed.
pub(super) fn is_too_dense(text: &[u8]) -> bool {
    // No value is shorter than a byte.
    if text.len() <= limits::JSON_VALUES {
        return false;
    }
    let (mut values, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b',' | b'[' | b'{' if !is_string => values += 1,
            _ => {}
        }
    }
    values > limits::JSON_VALUES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_and_text_does_not() {
        let many = limits::JSON_VALUES + 1;
        assert!(is_too_dense("[".repeat(many).as_bytes()));
        assert!(is_too_dense("0,".repeat(many).as_bytes()));
        assert!(!is_too_dense(
            format!(r#"{{"output":"{}\",{}"}}"#, ",".repeat(many), "[".repeat(many)).as_bytes()
        ));
    }
}
