//! What may stand in what users are shown or sent to.

/// Whether a text can be shown without making what stands beside it look like something else: no controls, and none of the
/// characters that turn the direction of writing (Unicode TR 36, 2.3) or that nobody sees.
pub(super) fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
    })
}

/// Whether all of a text may stand in a URI (RFC 3986, 2), so that nobody has to guess where it ends.
pub(super) fn is_uri(text: &str) -> bool {
    let mut bytes = text.bytes();
    let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => is_hex(bytes.next()) && is_hex(bytes.next()),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_not_plain() {
        assert!(is_plain("Ünïcode & <b>") && !is_plain("a\u{202E}b") && !is_plain("a\nb"));
        assert!(is_uri("https://a/b?c=%20&d") && !is_uri("a b") && !is_uri("%2") && !is_uri("ä"));
        assert!(!is_uri("a\\b") && !is_uri("a\"b"));
    }
}
