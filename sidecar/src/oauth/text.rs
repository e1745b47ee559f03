//! What may stand in what users are sent to.

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
    fn what_is_no_uri_is_told() {
        assert!(is_uri("https://a/b?c=%20&d") && !is_uri("a b") && !is_uri("%2") && !is_uri("ä"));
        assert!(!is_uri("a\\b") && !is_uri("a\"b"));
    }
}
