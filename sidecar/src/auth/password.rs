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
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let work = move || {
            // Goes with the work, which runs to its end even when the request is gone.
            let _permit = permit;
            hash(password.expose_secret())
        };
        tokio::task::spawn_blocking(work).await.ok()?
    }

    /// Whether `password` is the one behind `stored`; never for an unknown user, who has none.
    pub async fn verify(&self, password: Secret<String>, stored: Option<String>) -> bool {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return false };
        let nobody = Arc::clone(&self.nobody);
        let work = move || {
            let _permit = permit;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_matches() {
        let passwords = Passwords::new(2);
        let secret = |text: &str| Secret::new(text.to_owned());
        let stored = passwords.hash(secret("correct horse")).await;
        assert!(stored.as_deref().is_some_and(|hash| hash.starts_with("$argon2id$")));
        assert!(passwords.verify(secret("correct horse"), stored.clone()).await);
        assert!(!passwords.verify(secret("wrong horse"), stored).await);
        assert!(!passwords.verify(secret("nobody's password"), None).await);
        assert!(!passwords.verify(secret("x"), Some("not a hash".to_owned())).await);
    }

    /// A client that sends logins and hangs up must not start more work than is allowed at once.
    #[tokio::test]
    async fn work_keeps_its_permit_when_the_request_is_gone() {
        // The work may be done on a machine that is faster than these lines; then nothing is shown.
        for _ in 0..20 {
            let passwords = Passwords::new(1);
            let request = tokio::spawn({
                let passwords = passwords.clone();
                async move { passwords.hash(Secret::new("x".repeat(16_384))).await }
            });
            tokio::task::yield_now().await;
            request.abort();
            let _ = request.await;
            if passwords.permits.available_permits() == 0 {
                let again = passwords.hash(Secret::new("y".to_owned())).await;
                assert!(again.is_some(), "the permit comes back");
                return;
            }
        }
        panic!("the permit goes with the request");
    }
}
