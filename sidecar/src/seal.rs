//! What is written can be trusted when it is read: by encryption that authenticates, or by a checksum.
//!
//! Each record is encrypted by AES-256-GCM with a key of its own, derived by HKDF (RFC 5869) from the file's key, what
//! the records are for, the record's name and 32 random bytes beside it. A key is used once, so the nonce can be
//! constant, and however many records are written, none repeats. One key may serve several purposes: what is sealed for
//! one can't be opened for another.

use std::hash::Hasher;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use siphasher::sip::SipHasher13;
use zeroize::Zeroizing;

use crate::proxy::random;

/// The first byte of what is written.
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

const SALT: usize = 32;

/// What records are sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Entries of a cache, in its file.
    CacheOnDisk,
    /// Secrets of channels, in the sidecar's database.
    Channels,
    /// Tokens, credentials and entries of sync, in the sidecar's database.
    Sync,
    /// Answers to requests with an idempotency key, in the sidecar's database.
    Answers,
    /// Credentials in the settings of caches, in the sidecar's database.
    Caches,
}

impl Purpose {
    /// Part of what is written: never another for the same purpose.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::CacheOnDisk => b"integratedb cache on disk",
            Self::Channels => b"integratedb secrets of channels",
            Self::Sync => b"integratedb sync",
            Self::Answers => b"integratedb answers to requests",
            Self::Caches => b"integratedb credentials of caches",
        }
    }
}

/// Encrypts, if it has a key.
pub struct Sealer(Option<Prk>);

impl Sealer {
    /// Adds a checksum only.
    pub(crate) const fn plain() -> Self {
        Self(None)
    }

    pub(crate) fn new(purpose: Purpose, key: &[u8; 32]) -> Self {
        Self(Some(Salt::new(HKDF_SHA256, purpose.label()).extract(key)))
    }

    /// One with the key in a file: 32 bytes, as they are or as 64 hexadecimal digits. The error says what is wrong
    /// with it.
    pub(crate) fn from_file(purpose: Purpose, file: &Path) -> Result<Self, String> {
        let bytes = Zeroizing::new(std::fs::read(file).map_err(|error| error.to_string())?);
        if let Ok(key) = <&[u8; 32]>::try_from(bytes.as_slice()) {
            return Ok(Self::new(purpose, key));
        }
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(bytes.trim_ascii(), key.as_mut_slice())
            .map_err(|_| "a key has 32 bytes, or 64 hexadecimal digits")?;
        Ok(Self::new(purpose, &key))
    }

    /// What to write for the record of this name.
    pub(crate) fn seal(&self, name: &[u8], bytes: &[u8]) -> Vec<u8> {
        let Some(key) = &self.0 else {
            return [&[PLAIN][..], &checksum(name, bytes), bytes].concat();
        };
        let salt = random::bytes::<SALT>();
        let mut sealed = bytes.to_vec();
        of_record(key, &salt, name)
            .seal_in_place_append_tag(nonce(), Aad::from(name), &mut sealed)
            .expect("a record is far below the 64 GB that one key takes");
        [&[SEALED][..], &salt, &sealed].concat()
    }

    /// What was written, unless it is not as it was written, under another name, or with another key.
    pub(crate) fn open(&self, name: &[u8], written: &[u8]) -> Option<Vec<u8>> {
        let (kind, rest) = written.split_first()?;
        match (&self.0, *kind) {
            (None, PLAIN) => {
                let (sum, bytes) = rest.split_first_chunk::<8>()?;
                (*sum == checksum(name, bytes)).then(|| bytes.to_vec())
            }
            (Some(key), SEALED) => {
                let (salt, sealed) = rest.split_first_chunk::<SALT>()?;
                let mut bytes = sealed.to_vec();
                let key = of_record(key, salt, name);
                let length = key.open_in_place(nonce(), Aad::from(name), &mut bytes).ok()?.len();
                bytes.truncate(length);
                Some(bytes)
            }
            _ => None,
        }
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn of_record(key: &Prk, salt: &[u8; SALT], name: &[u8]) -> LessSafeKey {
    let info = [&salt[..], name];
    let derived = key.expand(&info, &AES_256_GCM).expect("32 bytes are few enough");
    LessSafeKey::new(UnboundKey::from(derived))
}

/// Tells damage, not intent.
fn checksum(name: &[u8], bytes: &[u8]) -> [u8; 8] {
    let mut hasher = SipHasher13::new();
    hasher.write_usize(name.len());
    hasher.write(name);
    hasher.write(bytes);
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_written_is_not_read() {
        let of = |byte| Sealer::new(Purpose::CacheOnDisk, &[byte; 32]);
        let (key, other) = (of(7), of(8));
        for sealer in [&key, &Sealer::plain()] {
            let sealed = sealer.seal(b"name", b"some text");
            assert_eq!(sealer.open(b"name", &sealed).as_deref(), Some(&b"some text"[..]));
            assert_eq!(sealer.open(b"eman", &sealed), None, "another name");
            assert_eq!(other.open(b"name", &sealed), None, "another key");
            let elsewhere = Sealer::new(Purpose::Channels, &[7; 32]);
            assert_eq!(elsewhere.open(b"name", &sealed), None, "another purpose");
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 4;
                assert_eq!(sealer.open(b"name", &damaged), None, "damage at {at}");
                assert_eq!(sealer.open(b"name", &sealed[..at]), None, "cut at {at}");
            }
        }
        assert_eq!(Sealer::plain().open(b"name", &key.seal(b"name", b"some text")), None);
        let shown = key.seal(b"name", b"some text");
        assert!(!shown.windows(4).any(|part| part == b"some"));
    }
}
