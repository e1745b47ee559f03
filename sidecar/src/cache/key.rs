//! Keyed hashes of 128 bits, which stand for what is too long to compare: that no two things share one by chance or
//! intent is relied on.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher as _;

/// Makes hashes that are the same as long as its key is.
#[derive(Clone)]
pub(crate) struct Hasher(SipHasher13);

impl Hasher {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    /// The hash of these parts in this order; where one ends and the next begins counts.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = self.0;
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().into()
    }

    /// The hash of what was hashed before and some bytes.
    pub(crate) fn key(&self, statement: u128, identity: u128, parameters: &[u8]) -> u128 {
        let mut hasher = self.0;
        hasher.write_u128(statement);
        hasher.write_u128(identity);
        hasher.write(parameters);
        hasher.finish128().into()
    }
}
