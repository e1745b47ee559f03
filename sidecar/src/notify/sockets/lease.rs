//! How long a socket may go on.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Sockets;
use crate::auth::{Principal, Token};
use crate::db::{DbError, Pool};
use crate::notify::Subscriptions;

/// How often it is asked whether the token still is one, and the stakeholder still there, when nothing tells of it.
const LOOK: Duration = Duration::from_secs(30);

/// Why a socket is closed from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The sidecar stops; another one, or the next, goes on.
    Stopping,
    /// The token is none any more: its time is up, somebody has revoked it, or its user is no operator now.
    Expired,
    /// There is no such stakeholder any more.
    Deleted,
    /// The client has not answered a ping.
    Silent,
    /// The log can't be read at present.
    Failed,
}

impl End {
    /// The code a WebSocket is closed with.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Stopping => 1001,
            Self::Failed => 1011,
            Self::Expired => 4401,
            Self::Deleted => 4404,
            Self::Silent => 4408,
        }
    }

    /// The name of SSE's last event.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
            Self::Silent => "silent",
        }
    }

    /// In words, of at most 123 bytes.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Stopping => "the sidecar stops; connect again and go on after the last id",
            Self::Failed => "the log can't be read now; connect again and go on after the last id",
            Self::Expired => "the token is not valid any more",
            Self::Deleted => "the stakeholder was deleted",
            Self::Silent => "no answer to a ping",
        }
    }
}

/// What a socket was opened with, and what is watched while it is open.
pub(super) struct Lease {
    pool: Pool,
    stakeholder: i64,
    token: Token,
    expires: Instant,
    stopping: CancellationToken,
    looks: watch::Receiver<()>,
    subscriptions: watch::Receiver<std::sync::Arc<Subscriptions>>,
}

impl Lease {
    pub(super) fn new(
        sockets: &Sockets,
        stakeholder: i64,
        token: Token,
        remaining: Duration,
    ) -> Self {
        Self {
            pool: sockets.notifications.pool().clone(),
            stakeholder,
            token,
            expires: Instant::now() + remaining,
            stopping: sockets.stopping.clone(),
            looks: sockets.looks.subscribe(),
            subscriptions: sockets.notifications.subscriptions(),
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(mut self) -> End {
        let (stopping, expires) = (self.stopping.clone(), self.expires);
        tokio::select! {
            () = stopping.cancelled() => End::Stopping,
            () = tokio::time::sleep_until(expires) => End::Expired,
            end = self.lost() => end,
        }
    }

    async fn lost(&mut self) -> End {
        let mut is_subscribed = self.is_subscribed();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                // Whoever tells lives as long as the process.
                _ = self.looks.changed() => {}
                _ = self.subscriptions.changed() => {
                    let was_subscribed = std::mem::replace(&mut is_subscribed, self.is_subscribed());
                    if is_subscribed || !was_subscribed {
                        continue;
                    }
                }
            }
            match self.look().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => tracing::debug!(%error, "a socket's token can't be looked at now"),
            }
        }
    }

    fn is_subscribed(&mut self) -> bool {
        self.subscriptions.borrow_and_update().of_stakeholder(self.stakeholder).is_some()
    }

    async fn look(&self) -> Result<Option<End>, DbError> {
        let client = self.pool.get().await?;
        let sql = "SELECT FROM integratedb.stakeholder WHERE id = $1";
        if client.query_opt(sql, &[&self.stakeholder]).await?.is_none() {
            return Ok(Some(End::Deleted));
        }
        let principal = Principal::of(&**client, &self.token).await?;
        let is_allowed = principal.is_some_and(|principal| principal.operator);
        Ok((!is_allowed).then_some(End::Expired))
    }
}
