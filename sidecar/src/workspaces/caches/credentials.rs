//! Passwords in the settings of caches: each is kept together with where it may go, and sealed.

use serde::{Deserialize, Serialize};

use super::settings::SslMode;
use crate::seal::Sealer;
use crate::secret::Secret;

/// The passwords of a cache.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Credentials {
    pub(super) verifiers: Option<Credential>,
    pub(super) caching: Option<Credential>,
}

/// A password, and the one place that it goes to.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Credential {
    place: Place,
    password: String,
}

/// Where a password goes to, as whose, how well it is protected on the way, and what its user is made to run there: in a
/// database of one's own, or with a query of one's own, it would be anything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) hostname: String,
    pub(super) port: u16,
    pub(super) sslmode: SslMode,
    pub(super) user: String,
    pub(super) database: String,
    /// What is asked there, if the cache says so.
    pub(super) query: Option<String>,
}

impl Credential {
    pub(super) fn new(place: Place, password: &Secret<String>) -> Self {
        Self { place, password: password.expose_secret().clone() }
    }

    /// The password, if it is for that place.
    pub(super) fn password(&self, place: &Place) -> Option<Secret<String>> {
        (self.place == *place).then(|| Secret::new(self.password.clone()))
    }
}

impl Credentials {
    /// Whether there is any.
    pub(super) const fn is_any(&self) -> bool {
        self.verifiers.is_some() || self.caching.is_some()
    }

    /// What was sealed for a cache; the error is for people.
    pub(super) fn open(
        cache: &str,
        sealed: Option<&[u8]>,
        sealer: Option<&Sealer>,
    ) -> Result<Self, &'static str> {
        let Some(sealed) = sealed else { return Ok(Self::default()) };
        let sealer = sealer
            .ok_or("its passwords can't be read: the setting workspaces.key_file is missing")?;
        let opened = sealer.open(cache.as_bytes(), sealed);
        opened.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(
            "its passwords can't be read: the key in workspaces.key_file is another one than they \
             were sealed with",
        )
    }

    /// What to store for a cache; nothing if there is none.
    pub(super) fn seal(&self, cache: &str, sealer: &Sealer) -> Option<Vec<u8>> {
        let bytes = serde_json::to_vec(self).expect("names, numbers and texts can be written");
        self.is_any().then(|| sealer.seal(cache.as_bytes(), &bytes))
    }
}
