//! Getting a connection to the origin, and giving it back fit for the next client.

use std::sync::Arc;

use integratedb_wire::{TransactionStatus, write};

use super::caching::Caching;
use super::{End, Session, Source, can_be_read, state};
use crate::cache::Who;
use crate::proxy::backend::OpenError;
use crate::proxy::cancel;
use crate::proxy::pool::Lease;
use crate::proxy::recent::Recent;
use crate::proxy::report::{self, Report};

/// How many connections may refuse a session's settings before the session is given up.
const ATTEMPTS: u32 = 3;

/// Bytes a client may send ahead while it waits for a connection.
const AHEAD: usize = 16 << 10;

impl Session {
    /// A connection that is free now and in the state that this session wants it, if there is one.
    pub(super) fn link_at_once(&mut self) -> Option<Lease> {
        let Source::Pool { pool, .. } = &self.source else { return None };
        if self.cache.is_retired() {
            return None;
        }
        let lease = pool.try_acquire(&self.cache)?;
        let link = &lease.backend;
        if !link.settings.same(&self.settings) || !link.params.same(&self.params) {
            pool.release(lease, &self.cache);
            return None;
        }
        self.has_spoken = false;
        Some(lease)
    }

    /// A connection in the state that this session's last one was in.
    pub(super) async fn link(&mut self) -> Result<Lease, End> {
        self.follow_reload()?;
        let Source::Pool { pool, .. } = &self.source else { return Err(End::OriginGone) };
        let pool = Arc::clone(pool);
        let mut refused = 0;
        loop {
            let mut lease = tokio::select! {
                biased;
                lease = pool.acquire(&self.cache) => lease.map_err(End::from)?,
                end = wait_for_end(&mut self.input, &mut self.client) => return Err(end),
            };
            let link = &mut lease.backend;
            match state::restore(link, &self.settings).await {
                Ok(None) => {}
                // What others have set there may be in the way, and is so no longer.
                Ok(Some(_)) if refused < ATTEMPTS => {
                    refused += 1;
                    lease.backend.close();
                    continue;
                }
                Ok(Some(why)) => {
                    lease.backend.close();
                    return Err(End::from(
                        Report::fatal(
                            report::CANNOT_CONNECT_NOW,
                            "the session's settings could not be set again on another connection",
                        )
                        .detail(why),
                    ));
                }
                // It broke while it was idle, and nothing of the client's was sent yet.
                Err(OpenError::Io(_)) => continue,
                Err(error) => {
                    let mut bytes = Vec::new();
                    error.write(&mut bytes);
                    return Err(End::from(bytes));
                }
            }
            if !link.params.same(&self.params) {
                for (name, value) in link.params.beyond(&self.params) {
                    write::backend::parameter_status(self.output.tail(), name, value)
                        .expect("it came in a message of the same kind");
                }
                self.params = link.params.clone();
                self.reads_text = can_be_read(&self.params);
            }
            self.has_spoken = false;
            return Ok(lease);
        }
    }

    /// After a reload that changed the cache, its successor is used.
    fn follow_reload(&mut self) -> Result<(), End> {
        if !self.cache.is_retired() {
            return Ok(());
        }
        let Source::Pool { pool, keys } = &mut self.source else { return Ok(()) };
        let Some(cache) = self.registry.cache(self.cache.id()) else {
            return Err(self.removed());
        };
        *pool = cache.pool(pool.key());
        pool.learn_if_none(keys);
        cache.enter();
        std::mem::replace(&mut self.cache, cache).leave();
        // What the former one counts by may be shown no more.
        self.recent = Recent::default();
        // A block that the former engine knows of is brought to its end there.
        if self.caching.as_ref().is_none_or(|caching| caching.block.is_none()) {
            let Source::Pool { pool, .. } = &self.source else { return Ok(()) };
            self.caching = self.cache.engine(&pool.key().database).map(|engine| {
                let who = Who::new(pool.key().clone(), &self.settings);
                let mut caching = Caching::new(Arc::clone(engine), who);
                // It has seen what the former engine knows of.
                caching.seen = None;
                Box::new(caching)
            });
        }
        Ok(())
    }

    /// Learns from the origin what the last transaction has set.
    pub(super) async fn capture(&mut self, lease: &mut Lease) -> Result<(), End> {
        // A cancel request that comes late is for the client's query, not for this one.
        if !self.key.unlink() {
            self.key.settled().await;
        }
        let captured = state::capture(&mut lease.backend, &self.settings, &self.touched).await;
        self.touched = state::Touched::default();
        match captured {
            Ok(captured) => {
                self.settings = captured.over(&self.first_settings);
                Ok(())
            }
            // Going on with what was set before would be wrong without a word.
            Err(error) => {
                tracing::warn!(%error, "what a session has set can't be read");
                Err(End::OriginGone)
            }
        }
    }

    /// Gives the connection back between transactions.
    pub(super) fn unlink(&mut self, lease: Lease) {
        let is_settled = self.key.unlink();
        self.give_back(lease, is_settled, false);
    }

    /// Puts a connection back into its pool, once no cancel request is on its way to it any more.
    fn give_back(&self, mut lease: Lease, is_settled: bool, reset: bool) {
        let Source::Pool { pool, .. } = &self.source else { return };
        if is_settled && !reset {
            pool.release(lease, &self.cache);
            return;
        }
        let (pool, cache, settled) =
            (Arc::clone(pool), Arc::clone(&self.cache), self.key.settled());
        self.registry.spawn(async move {
            settled.await;
            if !reset || state::reset(&mut lease.backend, cache.settings()).await {
                pool.release(lease, &cache);
            }
        });
    }

    /// Takes leave of a connection in whatever state it is.
    pub(super) fn abandon(&mut self, lease: Lease, end: &End) {
        let is_settled = self.key.unlink();
        let is_complete = self.flow.is_empty() && self.up_rest == 0;
        let link = &lease.backend;
        let is_clean = is_complete
            && self.status == TransactionStatus::Idle
            && self.down_rest == 0
            && link.output.is_drained()
            && link.input.is_empty()
            && !self.unsound
            && !self.hung_up
            && !matches!(end, End::OriginGone);
        if is_clean && !self.is_own() {
            let is_as_it_was = self.shares() && !self.pinned && !self.touched.is_any();
            self.give_back(lease, is_settled, !is_as_it_was);
            return;
        }
        if matches!(end, End::OriginGone) {
            return;
        }
        if is_complete {
            lease.backend.close();
            return;
        }
        // A client that said goodbye wants done what it asked for; one that is gone does not any more.
        let is_wanted = self.terminated && self.up_rest == 0 && !self.hung_up;
        self.registry.spawn(async move {
            // The lease goes last: the connection counts until it is closed.
            let mut lease = lease;
            let backend = &mut lease.backend;
            if is_wanted {
                write::frontend::terminate(backend.output.tail());
                backend.finish().await;
            } else if let Err(error) = cancel::send(&backend.key).await {
                tracing::warn!(error, "the query of a client that is gone could not be cancelled");
            }
        });
    }
}

/// Ends when the client does, while it waits.
async fn wait_for_end(
    input: &mut crate::proxy::buffer::Buffer,
    client: &mut crate::proxy::stream::Stream,
) -> End {
    while input.len() < AHEAD {
        if !matches!(input.fill(client).await, Ok(count) if count > 0) {
            return End::ClientGone;
        }
    }
    std::future::pending().await
}
