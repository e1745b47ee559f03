//! A limit on login attempts, by user name and by client address. In memory: a restart forgives.
//!
//! An attempt is taken before the password is looked at, so that many guesses at once count like many in a
//! row, and given back when the password was right.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::Buckets;

/// How long one attempt is remembered.
const FORGET: Duration = Duration::from_secs(60);

/// Counts attempts; each key regains one a minute, and that of a right password at once.
pub struct LoginLimit {
    users: Mutex<Buckets<String>>,
    addresses: Mutex<Buckets<IpAddr>>,
}

/// A login under way.
#[must_use = "an attempt that succeeds has to be given back"]
pub struct Attempt<'a> {
    limit: &'a LoginLimit,
    user: String,
    address: IpAddr,
}

impl LoginLimit {
    /// So many attempts at once for one user name and for one address.
    pub fn new(per_user: u32, per_address: u32) -> Self {
        Self {
            users: Mutex::new(Buckets::new(per_user, FORGET)),
            addresses: Mutex::new(Buckets::new(per_address, FORGET)),
        }
    }

    /// Takes one attempt. Errors with the time to wait when there is none left.
    pub fn attempt(&self, username: &str, address: IpAddr) -> Result<Attempt<'_>, Duration> {
        self.attempt_at(username, address, Instant::now())
    }

    fn attempt_at(
        &self,
        username: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        // A name nobody could have is not worth remembering at its full length.
        let user: String = username.chars().take(33).collect();
        let address = network(address);
        lock(&self.addresses).take(&address, now)?;
        lock(&self.users).take(&user, now)?;
        Ok(Attempt { limit: self, user, address })
    }
}

impl Attempt<'_> {
    /// The password was right: the attempt does not count.
    pub fn succeeded(self) {
        lock(&self.limit.users).give_back(&self.user);
        lock(&self.limit.addresses).give_back(&self.address);
    }
}

/// One subscriber has a whole /64 of IPv6 addresses (RFC 6177), so that is what counts as one client.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// A panic elsewhere leaves instants behind that are as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn one_user_is_limited_and_others_are_not() {
        let limit = LoginLimit::new(2, 100);
        let now = Instant::now();
        assert!(limit.attempt_at("ann", HOME, now).is_ok());
        assert!(limit.attempt_at("ann", HOME, now).is_ok());
        assert_eq!(limit.attempt_at("ann", HOME, now).err(), Some(FORGET));
        assert!(limit.attempt_at("bob", HOME, now).is_ok());
        assert!(limit.attempt_at("ann", HOME, now + FORGET).is_ok(), "one a minute comes back");
        assert!(limit.attempt_at("ann", HOME, now + FORGET).is_err(), "and only one");
    }

    #[test]
    fn one_address_is_limited_over_all_users() {
        let limit = LoginLimit::new(100, 1);
        let now = Instant::now();
        assert!(limit.attempt_at("ann", HOME, now).is_ok());
        assert!(limit.attempt_at("bob", HOME, now).is_err());
    }

    #[test]
    fn a_right_password_costs_nothing() {
        let limit = LoginLimit::new(1, 1);
        let now = Instant::now();
        for _ in 0..50 {
            limit.attempt_at("ann", HOME, now).expect("nothing has failed").succeeded();
        }
        assert!(limit.attempt_at("ann", HOME, now).is_ok());
        assert!(limit.attempt_at("ann", HOME, now).is_err());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_client() {
        let limit = LoginLimit::new(100, 1);
        let now = Instant::now();
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(limit.attempt_at("a", address("2001:db8::1"), now).is_ok());
        assert!(limit.attempt_at("b", address("2001:db8::ffff:1"), now).is_err());
        assert!(limit.attempt_at("c", address("2001:db8:0:1::1"), now).is_ok());
        assert!(limit.attempt_at("d", address("::ffff:192.0.2.1"), now).is_ok());
        assert!(limit.attempt_at("e", address("192.0.2.1"), now).is_err());
    }
}
