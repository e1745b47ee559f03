//! Text that users are shown.

/// Whether a text can be shown without making what stands beside it look like something else: no controls, and none of the
/// characters that turn the direction of writing (Unicode TR 36, 2.3) or that nobody sees.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_not_plain() {
        assert!(is_plain("Ünïcode & <b>") && !is_plain("a\u{202E}b") && !is_plain("a\nb"));
        assert!(!is_plain("a\u{061C}b"));
    }
}
