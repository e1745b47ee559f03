//! Signatures of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, each secret's beside the others'.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The value of `webhook-signature`. `timestamp` is in seconds since 1970.
pub(super) fn signature(
    keys: impl Iterator<Item = Vec<u8>>,
    id: &str,
    timestamp: u64,
    body: &[u8],
) -> String {
    let sign = |key: Vec<u8>| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    };
    keys.map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_as_the_specification_has_it() {
        // The example of the specification's own test vectors.
        let key = || BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let sign = |keys: Vec<Vec<u8>>| {
            signature(
                keys.into_iter(),
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
            )
        };
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(vec![key()]), one);
        let both = sign(vec![key(), vec![1; 32]]);
        assert!(both.starts_with(&format!("{one} v1,")) && both.split(' ').count() == 2);
    }
}
