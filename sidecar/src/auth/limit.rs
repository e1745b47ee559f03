//! A limit on login attempts, by user name and by client address. In memory: a restart forgives.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock>;

/// Counts attempts; each key regains one attempt a minute.
pub struct LoginLimit {
    users: Limiter<String>,
    addresses: Limiter<IpAddr>,
}

impl LoginLimit {
    /// So many attempts at once for one user name and for one address.
    pub fn new(per_user: u32, per_address: u32) -> Self {
        let quota = |burst: u32| {
            Quota::per_minute(NonZeroU32::MIN)
                .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
        };
        Self {
            users: RateLimiter::dashmap(quota(per_user)),
            addresses: RateLimiter::dashmap(quota(per_address)),
        }
    }

    /// Takes one attempt. Errors with the time to wait when there is none left.
    pub fn attempt(&self, username: &str, address: IpAddr) -> Result<(), Duration> {
        let wait =
            |until: governor::NotUntil<_>| until.wait_time_from(DefaultClock::default().now());
        self.addresses.check_key(&address).map_err(wait)?;
        // A name nobody could have is not worth remembering at its full length.
        let key: String = username.chars().take(32).collect();
        self.users.check_key(&key).map_err(wait)?;
        // What has its full quota again need not be kept: memory stays bounded by recent attempts.
        if self.users.len() + self.addresses.len() > 10_000 {
            self.users.retain_recent();
            self.addresses.retain_recent();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_is_limited_and_others_are_not() {
        let limit = LoginLimit::new(2, 100);
        let address = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(limit.attempt("ann", address), Ok(()));
        assert_eq!(limit.attempt("ann", address), Ok(()));
        let wait = limit.attempt("ann", address).expect_err("spent");
        assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(60));
        assert_eq!(limit.attempt("bob", address), Ok(()));
    }

    #[test]
    fn one_address_is_limited_over_all_users() {
        let limit = LoginLimit::new(100, 1);
        let address = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(limit.attempt("ann", address), Ok(()));
        assert!(limit.attempt("bob", address).is_err());
    }
}
