//! JSON strings, escaped as `escape_json` of PostgreSQL does: only what has to be.

/// Appends a text as a JSON string, with its quotes.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        escape(*byte, out);
        rest = after;
    }
    out.push(b'"');
}

const fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// How many bytes from the start stand for themselves.
fn plain_length(text: &[u8]) -> usize {
    // Looking at all of a chunk, without leaving early, is what the compiler turns into vector instructions.
    let plain = |chunk: &&[u8; 16]| !chunk.iter().fold(false, |any, byte| any | is_special(*byte));
    let (chunks, _) = text.as_chunks();
    let whole = 16 * chunks.iter().take_while(plain).count();
    let rest = &text[whole..];
    whole + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> String {
        let mut out = Vec::new();
        write_string(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("text in, text out")
    }

    #[test]
    fn only_what_has_to_be_is_escaped() {
        assert_eq!(string(""), r#""""#);
        assert_eq!(string("\u{8}\u{c}\n\r\t\"\\"), r#""\b\f\n\r\t\"\\""#);
        assert_eq!(string("\u{1}\u{b}\u{1f}"), r#""\u0001\u000b\u001f""#);
        assert_eq!(string("a/é\u{7f}\u{2028}😀"), "\"a/é\u{7f}\u{2028}😀\"");
    }

    #[test]
    fn it_does_not_matter_where_in_a_text_something_special_is() {
        for length in 0..40 {
            let text = "x".repeat(length);
            assert_eq!(string(&text), format!("\"{text}\""));
            assert_eq!(string(&format!("{text}\n{text}\"")), format!(r#""{text}\n{text}\"""#));
        }
    }
}
