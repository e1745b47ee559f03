//! PKCE by S256 (RFC 7636), which ties a code to whoever asked for it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whether a text can be a challenge: the SHA-256 of something.
pub(super) fn is_challenge(text: &str) -> bool {
    BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(|hash| hash.len() == 32)
}

/// Whether a challenge was made of this verifier.
pub(super) fn matches(challenge: &str, verifier: &str) -> bool {
    let is_unreserved =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let made = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(is_unreserved)
        && bool::from(made.as_bytes().ct_eq(challenge.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn only_the_verifier_matches() {
        assert!(is_challenge(CHALLENGE) && matches(CHALLENGE, VERIFIER));
        assert!(!matches(CHALLENGE, CHALLENGE), "as with the method plain");
        assert!(!matches(CHALLENGE, &VERIFIER[1..]) && !matches(CHALLENGE, ""));
        assert!(!is_challenge("short") && !is_challenge(&format!("{CHALLENGE}=")));
    }
}
