//! Tickets: what a browser shows in place of a token, as it can't set headers on a socket.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::{Token, random_secret};
use crate::db::DbError;

/// How long a ticket is good for.
pub(crate) const VALID: Duration = Duration::from_secs(60);

/// The most tickets at once; beyond them the one that ends first goes.
const MOST: usize = 10_000;

/// Tickets that were given and not used. A process knows only its own.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<String, Ticket>>);

struct Ticket {
    stakeholder: i64,
    /// Whose it is: the socket ends with this token.
    token: Token,
    until: Instant,
}

impl Tickets {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Ticket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket to one socket of this stakeholder, for who has this token.
    pub(crate) fn issue(&self, stakeholder: i64, token: Token) -> Result<Token, DbError> {
        self.issue_until(stakeholder, token, Instant::now() + VALID)
    }

    fn issue_until(
        &self,
        stakeholder: i64,
        token: Token,
        until: Instant,
    ) -> Result<Token, DbError> {
        let ticket = random_secret()?;
        let mut all = self.all();
        if all.len() >= MOST {
            let now = Instant::now();
            all.retain(|_, ticket| ticket.until > now);
        }
        if all.len() >= MOST
            && let Some(first) = all.iter().min_by_key(|(_, ticket)| ticket.until)
        {
            let first = first.0.clone();
            all.remove(&first);
        }
        all.insert(ticket.expose_secret().clone(), Ticket { stakeholder, token, until });
        Ok(ticket)
    }

    /// Uses a ticket up; the token that it stands for, if it is good for this stakeholder.
    pub(crate) fn redeem(&self, stakeholder: i64, ticket: &str) -> Option<Token> {
        let ticket = self.all().remove(ticket)?;
        (ticket.stakeholder == stakeholder && ticket.until > Instant::now()).then_some(ticket.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_ticket_is_good_once_for_one_stakeholder_and_a_while() {
        let tickets = Tickets::default();
        let token = || Secret::new("token".to_owned());
        let ticket = tickets.issue(7, token()).expect("there is randomness");
        assert!(tickets.redeem(7, "made up").is_none());
        assert!(tickets.redeem(7, ticket.expose_secret()).is_some());
        assert!(tickets.redeem(7, ticket.expose_secret()).is_none());
        let ticket = tickets.issue(7, token()).expect("there is randomness");
        assert!(tickets.redeem(8, ticket.expose_secret()).is_none());
        let late = tickets.issue_until(7, token(), Instant::now()).expect("there is randomness");
        assert!(tickets.redeem(7, late.expose_secret()).is_none());
    }

    #[test]
    fn tickets_that_nobody_uses_take_bounded_room() {
        let tickets = Tickets::default();
        for _ in 0..MOST + 10 {
            tickets.issue(1, Secret::new(String::new())).expect("there is randomness");
        }
        assert_eq!(tickets.all().len(), MOST);
    }
}
