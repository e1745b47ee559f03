//! Passwords, kept as argon2id hashes (RFC 9106) with the crate's defaults, which are OWASP's minimum.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

use crate::secret::Secret;

/// Hashes and verifies, a few at a time: each costs about 20 MiB and tens of milliseconds of a core, which
/// would otherwise be a way to bring the process down.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// The hash of nobody's password, so that an unknown user takes as long to refuse as a known one.
    nobody: Arc<str>,
}

impl Passwords {
    /// At most `at_once` computations at a time.
    pub fn new(at_once: usize) -> Self {
        let nobody = hash("nobody's password").unwrap_or_default();
        Self { permits: Arc::new(Semaphore::new(at_once.max(1))), nobody: nobody.into() }
    }

    /// The hash to store. `None` only if the computation itself failed.
    pub async fn hash(&self, password: Secret<String>) -> Option<String> {
        let _permit = self.permits.acquire().await.ok()?;
        tokio::task::spawn_blocking(move || hash(password.expose_secret())).await.ok()?
    }

    /// Whether `password` is the one behind `stored`; never for an unknown user, who has none.
    pub async fn verify(&self, password: Secret<String>, stored: Option<String>) -> bool {
        let Ok(_permit) = self.permits.acquire().await else { return false };
        let nobody = Arc::clone(&self.nobody);
        let work = move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&nobody);
            let matches = PasswordHash::new(stored).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(password.expose_secret().as_bytes(), &hash)
                    .is_ok()
            });
            matches && known
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(false)
    }
}

fn hash(password: &str) -> Option<String> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}
