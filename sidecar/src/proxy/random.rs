//! Random values that must not be guessed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::RngCore;
use rand::TryRngCore;
use rand::rngs::OsRng;

/// Random bytes of the operating system.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.unwrap_err().fill_bytes(&mut bytes);
    bytes
}

/// A nonce for SCRAM: printable, without a comma.
pub(crate) fn nonce() -> String {
    BASE64_STANDARD.encode(bytes::<18>())
}
