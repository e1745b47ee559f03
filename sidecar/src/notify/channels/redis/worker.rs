//! Delivers to one Redis.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use integratedb_events::EventId;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::super::error::ChannelsError;
use super::super::ledger::{Ledger, sleep_until};
use super::super::source::{Event, Source};
use super::super::store::{self, Progress, Row};
use super::settings::RedisSettings;
use super::write::{Keyed, WriteError, Writer};
use crate::notify::Notifications;

/// Events that are written at once, and their bytes.
const BATCH: (usize, usize) = (1000, 1 << 20);

/// The waits after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Delivers until it is cancelled.
pub(in crate::notify::channels) async fn run(
    notifications: &Arc<Notifications>,
    row: Row,
    settings: &RedisSettings,
    cancel: &CancellationToken,
) -> Result<(), ChannelsError> {
    let stored = {
        let client = notifications.pool().get().await?;
        store::begin(&client, row.id).await?
    };
    let worker = Worker {
        settings: settings.clone(),
        source: Source::new(Arc::clone(notifications), &row, stored.cursor),
        ledger: Ledger::new(Arc::clone(notifications), row.id, stored.lease, stored.failing_for),
        cursor: stored.cursor,
        writer: None,
        batch: VecDeque::new(),
        keys: HashMap::new(),
        generation: 0,
        wait: RETRY.0,
        again: None,
        row,
    };
    worker.run(cancel).await
}

struct Worker {
    row: Row,
    settings: RedisSettings,
    source: Source,
    ledger: Ledger,
    /// Everything up to here is written to Redis.
    cursor: EventId,
    writer: Option<Writer>,
    /// What is to be written next.
    batch: VecDeque<Event>,
    /// By table, for what is subscribed to at present.
    keys: HashMap<u32, String>,
    /// Of which subscriptions these are.
    generation: u64,
    /// How long to wait after the next error.
    wait: Duration,
    /// When to try again.
    again: Option<Instant>,
}

impl Worker {
    async fn run(mut self, cancel: &CancellationToken) -> Result<(), ChannelsError> {
        loop {
            let is_waiting = self.again.is_some_and(|again| again > Instant::now());
            if !self.batch.is_empty() && !is_waiting {
                tokio::select! {
                    // What was written comes again, and is known by its id.
                    () = cancel.cancelled() => break,
                    () = self.write() => {}
                }
            } else {
                let next = self.again.into_iter().chain(self.ledger.due()).min();
                tokio::select! {
                    () = cancel.cancelled() => break,
                    read = self.source.wait(), if self.batch.is_empty() => {
                        read?;
                        self.read();
                    }
                    () = sleep_until(next), if next.is_some() => {}
                }
            }
            if self.ledger.due().is_some_and(|due| due <= Instant::now()) {
                self.note().await?;
            }
        }
        self.note().await
    }

    fn read(&mut self) {
        self.source.take(BATCH.0, BATCH.1, &mut self.batch);
        if self.batch.is_empty() {
            self.cursor = self.source.position();
            self.ledger.passed();
        }
        if self.generation != self.source.generation() {
            self.generation = self.source.generation();
            let key = |(schema, table): &(String, String)| {
                let names = (schema.as_str(), table.as_str());
                self.settings.key.fill(&self.row.stakeholder_name, &self.row.config.name, names)
            };
            let tables = self.source.tables().iter();
            self.keys = tables.map(|(oid, table)| (*oid, key(table))).collect();
        }
    }

    async fn write(&mut self) {
        match self.attempt().await {
            Ok(()) => {
                self.ledger.succeeded(self.batch.len());
                self.cursor = self.batch.back().map_or(self.cursor, |event| event.id);
                self.batch.clear();
                (self.wait, self.again) = (RETRY.0, None);
            }
            Err(WriteError(error)) => {
                let (channel, stakeholder) = (&self.row.config.name, &self.row.stakeholder_name);
                tracing::warn!(
                    channel,
                    stakeholder,
                    error,
                    "events can't be written to Redis; they wait"
                );
                self.ledger.failed(&error);
                self.writer = None;
                self.again =
                    Some(Instant::now() + self.wait.mul_f64(rand::rng().random_range(0.8..1.2)));
                self.wait = (self.wait * 2).min(RETRY.1);
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), WriteError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::connect(&self.settings).await?),
        };
        let mut all: Vec<String> = self.keys.values().cloned().collect();
        all.sort_unstable();
        all.dedup();
        let head = self.source.head();
        writer.write(self.batch.make_contiguous(), &Keyed::new(&self.keys, &all), head).await
    }

    async fn note(&mut self) -> Result<(), ChannelsError> {
        self.ledger.figures.next_attempt =
            self.again.map(|again| again.saturating_duration_since(Instant::now()));
        self.ledger.write(Progress { cursor: self.cursor, ..Progress::default() }).await
    }
}
