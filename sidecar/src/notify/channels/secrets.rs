//! What is encrypted of a channel, and the secrets that webhooks are signed with.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ChannelsError;
use crate::proxy::random;
use crate::seal::Sealer;

/// What a secret of Standard Webhooks begins with.
const PREFIX: &str = "whsec_";

/// All that is secret of a channel.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Secrets {
    /// The newest first.
    #[serde(default)]
    signing: Vec<Signing>,
    /// Settings that may not be shown.
    #[serde(default)]
    pub(super) hidden: Map<String, Value>,
}

/// A secret that requests are signed with.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Signing {
    secret: String,
    /// Until when, in seconds since 1970; the newest has no end.
    until: Option<u64>,
}

/// Most secrets at once: more rotations within the overlap end the oldest early.
const MOST: usize = 4;

impl Secrets {
    /// Whether requests can be signed.
    pub(super) fn can_sign(&self) -> bool {
        !self.signing.is_empty()
    }

    /// Makes a new secret. Those before are used beside it for `overlap` from `now` on, in seconds since 1970.
    pub(super) fn rotate(&mut self, now: u64, overlap: Duration) -> String {
        let end = now.saturating_add(overlap.as_secs());
        for signing in &mut self.signing {
            signing.until = Some(signing.until.map_or(end, |until| until.min(end)));
        }
        self.signing.retain(|signing| signing.until.is_some_and(|until| until > now));
        self.signing.truncate(MOST - 1);
        let secret = format!("{PREFIX}{}", BASE64_STANDARD.encode(random::bytes::<32>()));
        self.signing.insert(0, Signing { secret: secret.clone(), until: None });
        secret
    }

    /// The keys to sign with at this time.
    pub(super) fn keys(&self, now: u64) -> impl Iterator<Item = Vec<u8>> {
        let valid = self
            .signing
            .iter()
            .filter(move |signing| signing.until.is_none_or(|until| until > now));
        valid
            .filter_map(|signing| BASE64_STANDARD.decode(signing.secret.strip_prefix(PREFIX)?).ok())
    }

    /// As it is stored.
    pub(super) fn seal(&self, sealer: &Sealer, stakeholder: i64, channel: &str) -> Vec<u8> {
        let text = serde_json::to_vec(self).expect("it is made of maps with texts for keys");
        sealer.seal(record(stakeholder, channel).as_bytes(), &text)
    }

    /// As it was stored.
    pub(super) fn open(
        sealer: Option<&Sealer>,
        stakeholder: i64,
        channel: &str,
        sealed: Option<&[u8]>,
    ) -> Result<Self, ChannelsError> {
        let Some(sealed) = sealed else { return Ok(Self::default()) };
        let sealer = sealer.ok_or_else(|| ChannelsError::NoKey(channel.to_owned()))?;
        sealer
            .open(record(stakeholder, channel).as_bytes(), sealed)
            .and_then(|text| serde_json::from_slice(&text).ok())
            .ok_or_else(|| ChannelsError::Sealed(channel.to_owned()))
    }
}

/// What it is sealed under: it can't be taken for that of another channel.
fn record(stakeholder: i64, channel: &str) -> String {
    format!("{stakeholder}/{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Purpose;

    #[test]
    fn those_before_are_used_for_the_overlap() {
        let mut secrets = Secrets::default();
        assert!(!secrets.can_sign());
        let first = secrets.rotate(100, Duration::from_secs(10));
        assert!(
            first.starts_with("whsec_")
                && secrets.keys(0).next().is_some_and(|key| key.len() == 32)
        );
        let second = secrets.rotate(200, Duration::from_secs(10));
        assert!(first != second);
        assert_eq!((secrets.keys(209).count(), secrets.keys(210).count()), (2, 1));
        assert_eq!(secrets.keys(205).next(), secrets.keys(300).next(), "the newest comes first");
        // The end that was promised to the first does not move.
        secrets.rotate(205, Duration::from_secs(100));
        assert_eq!((secrets.keys(209).count(), secrets.keys(211).count()), (3, 2));
        secrets.rotate(206, Duration::ZERO);
        assert_eq!(secrets.keys(206).count(), 1);
    }

    #[test]
    fn what_is_sealed_for_one_channel_opens_for_no_other() {
        let sealer = Sealer::new(Purpose::Channels, &[1; 32]);
        let mut secrets = Secrets::default();
        secrets.rotate(0, Duration::ZERO);
        let sealed = secrets.seal(&sealer, 7, "billing");
        let open = |sealer, stakeholder, channel| {
            Secrets::open(sealer, stakeholder, channel, Some(&sealed))
                .map(|opened| opened == secrets)
        };
        assert!(matches!(open(Some(&sealer), 7, "billing"), Ok(true)));
        assert!(matches!(open(Some(&sealer), 8, "billing"), Err(ChannelsError::Sealed(_))));
        assert!(matches!(open(Some(&sealer), 7, "x"), Err(ChannelsError::Sealed(_))));
        assert!(matches!(open(None, 7, "billing"), Err(ChannelsError::NoKey(_))));
        assert!(Secrets::open(None, 7, "x", None).is_ok_and(|none| !none.can_sign()));
    }
}
