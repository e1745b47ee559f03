//! Booleans, numbers, and the vectors that only the system catalogs have.

use super::{ValueError, write_string};

pub(super) fn write_bool(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.extend_from_slice(match text {
        b"t" => b"true",
        b"f" => b"false",
        _ => return Err(ValueError::Bool),
    });
    Ok(())
}

/// Appends a number; what JSON has no number for becomes a string.
pub(super) fn write_number(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if is_number(text) {
        out.extend_from_slice(text);
        return Ok(());
    }
    match text {
        b"NaN" | b"Infinity" | b"-Infinity" => write_string(text, out),
        _ => return Err(ValueError::Number),
    }
    Ok(())
}

/// Whether this is a number by the grammar of JSON (RFC 8259, section 6).
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let Some(mut rest) = after_digits(text) else { return false };
    if text[0] == b'0' && text.len() - rest.len() > 1 {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let Some(after) = after_digits(fraction) else { return false };
        rest = after;
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            after_digits(exponent).is_some_and(<[u8]>::is_empty)
        }
        _ => false,
    }
}

/// What follows the digits that a text begins with; None if there are none.
fn after_digits(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &text[count..])
}

/// Appends an int2vector or oidvector: an array whose text is its elements with spaces between.
pub(super) fn write_vector(
    text: &[u8],
    out: &mut Vec<u8>,
    element: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    out.push(b'[');
    if !text.is_empty() {
        for (at, part) in text.split(|byte| *byte == b' ').enumerate() {
            if at > 0 {
                out.push(b',');
            }
            element(part, out)?;
        }
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_what_json_has_no_number_for() {
        let number = |text: &str| {
            let mut out = Vec::new();
            write_number(text.as_bytes(), &mut out).map(|()| out)
        };
        for text in ["0", "-0", "7", "-12", "0.00", "10.5", "1e+20", "1.5e-07", "-2E9", "0e0"] {
            assert_eq!(number(text), Ok(text.as_bytes().to_vec()), "{text}");
        }
        for text in ["NaN", "Infinity", "-Infinity"] {
            assert_eq!(number(text), Ok(format!("\"{text}\"").into_bytes()), "{text}");
        }
        for text in [
            "", "-", "+1", "01", "-00", ".5", "5.", "1.e1", "1e", "1e+", "1e5.", "1 ", " 1", "0x1",
            "nan", "infinity", "-NaN", "1_0", "--1",
        ] {
            assert_eq!(number(text), Err(ValueError::Number), "{text}");
        }
    }
}
