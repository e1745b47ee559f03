//! What a constant looks like in the text that it came from.

/// Whether a literal begins at this byte whose value anybody can read: constants that Postgres made itself have other
/// places, or none. No escapes, whose meaning depends on a setting, no `'a' 'b'` over two lines, no `0x1f`.
pub(super) fn is_literal(text: &[u8], location: i32) -> bool {
    let rest = usize::try_from(location).ok().and_then(|at| text.get(at..)).unwrap_or_default();
    match rest {
        [b'-', ..] => true,
        [b'0'..=b'9', ..] => rest
            .iter()
            .find(|byte| !byte.is_ascii_digit())
            .is_none_or(|next| !next.is_ascii_alphabetic() && *next != b'_' && *next != b'.'),
        [b'\'', inner @ ..] | [b'e' | b'E', b'\'', inner @ ..] => is_plain_text(inner),
        [b't' | b'T' | b'f' | b'F', ..] => true,
        _ => false,
    }
}

/// Whether a quoted text, of which the first quote was taken off, says what is written.
fn is_plain_text(inner: &[u8]) -> bool {
    let mut bytes = inner.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => return false,
            b'\'' if inner.get(at + 1) == Some(&b'\'') => {
                bytes.next();
            }
            b'\'' => {
                let after = inner[at + 1..].trim_ascii_start();
                return !after.starts_with(b"'") && !after.starts_with(b"--");
            }
            _ => {}
        }
    }
    false
}

/// Whether the literal that begins here may hold one of the words that Postgres reads as a time of its own
/// (manual, "Special Date/Time Inputs"). True where it is not certain what the literal says.
pub(super) fn may_say_now(text: &[u8], location: i32) -> bool {
    let rest = usize::try_from(location).ok().and_then(|at| text.get(at..)).unwrap_or_default();
    let says = |part: &[u8]| {
        let part = part.to_ascii_lowercase();
        let has = |word: &[u8]| part.windows(word.len()).any(|here| here == word);
        [&b"now"[..], b"today", b"tomorrow", b"yesterday"].into_iter().any(has)
    };
    let Some(open) = rest.iter().take(3).position(|byte| *byte == b'\'') else {
        // Where a dollar-quoted one ends does not matter enough to look for.
        return rest.first() == Some(&b'$') && says(rest);
    };
    let inner = &rest[open + 1..];
    let end = inner.iter().position(|byte| *byte == b'\'').unwrap_or(inner.len());
    let after = inner.get(end + 1..).unwrap_or_default();
    let goes_on = after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'\'');
    goes_on || inner[..end].contains(&b'\\') || says(&inner[..end])
}
