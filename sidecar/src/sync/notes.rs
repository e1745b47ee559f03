//! Notes in the database what has ended: whatever has meanwhile, in one transaction.
//!
//! What the database refuses because of one of several is noted one by one, so it holds up no other. What can't be noted at
//! all is as if it had not happened: it is done again when its lock has ended.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::error::SyncError;
use super::handle::SyncHandle;
use super::queue::{self, FetchDone, PushDone, Retry};
use super::source::FetchError;
use super::target::PushError;
use crate::db::{DbError, Pool};
use crate::seal::Sealer;

/// How many that have ended are noted in one transaction.
const MOST_AT_ONCE: usize = 500;

/// The least time between two transactions that note some. Under load one notes more; who is alone does not wait.
const PACE: Duration = Duration::from_millis(4);

/// What has ended, on its way into the database.
pub(super) struct Notes {
    pool: Pool,
    sealer: Option<Arc<Sealer>>,
    handle: Arc<SyncHandle>,
    /// What has ended and is not noted yet.
    unnoted: AtomicUsize,
}

/// A kind of work that has ended.
pub(super) trait Ended: Send + Sync + Sized + 'static {
    /// Notes how these went.
    fn settle(notes: &Notes, done: &[Self]) -> impl Future<Output = Result<(), SyncError>> + Send;

    /// Has this one have failed, since the database does not take how it went.
    fn refuse(&mut self, why: String);
}

impl Notes {
    pub(super) fn new(pool: Pool, sealer: Option<Arc<Sealer>>, handle: Arc<SyncHandle>) -> Self {
        Self { pool, sealer, handle, unnoted: AtomicUsize::new(0) }
    }

    /// How much has ended and is not noted yet.
    pub(super) fn unnoted(&self) -> usize {
        self.unnoted.load(Ordering::Relaxed)
    }

    /// Takes what has ended.
    pub(super) fn add<T: Ended>(&self, to: &mpsc::UnboundedSender<T>, done: T) {
        self.unnoted.fetch_add(1, Ordering::Relaxed);
        // Without a receiver the sidecar stops: then the lock ends by itself.
        let _ = to.send(done);
    }

    /// Notes what has ended, until no more can end.
    pub(super) async fn run<T: Ended>(self: Arc<Self>, mut ended: mpsc::UnboundedReceiver<T>) {
        let (mut done, mut pace) = (Vec::new(), Pace::default());
        while pace.gather(&mut ended, &mut done).await {
            self.note(&mut done).await;
            self.unnoted.fetch_sub(done.len(), Ordering::Relaxed);
            done.clear();
            self.handle.wake.notify_one();
        }
    }

    async fn note<T: Ended>(&self, done: &mut [T]) {
        let Err(error) = self.settle(done).await else { return };
        if !is_of_one(&error) {
            return warn(&error, done.len());
        }
        tracing::debug!(%error, count = done.len(), "work of sync is noted one by one");
        for one in done {
            if let Err(error) = self.note_one(one).await {
                warn(&error, 1);
            }
        }
    }

    /// Notes one by itself: what the database refuses has failed.
    async fn note_one<T: Ended>(&self, one: &mut T) -> Result<(), SyncError> {
        match self.settle(std::slice::from_ref(one)).await {
            Err(error) if is_of_one(&error) => {
                one.refuse(error.to_string());
                self.settle(std::slice::from_ref(one)).await
            }
            result => result,
        }
    }

    async fn settle<T: Ended>(&self, done: &[T]) -> Result<(), SyncError> {
        queue::again(|| async {
            // A fault of ours would end all noting, and with it sync. What a panic leaves half done is rolled back.
            let settled = AssertUnwindSafe(T::settle(self, done)).catch_unwind().await;
            let panicked = |_| Err(SyncError::Unexpected("noting it has panicked".to_owned()));
            settled.unwrap_or_else(panicked)
        })
        .await
    }
}

impl Ended for FetchDone {
    async fn settle(notes: &Notes, done: &[Self]) -> Result<(), SyncError> {
        let settings = &notes.handle.settings;
        let concurrency =
            i32::try_from(settings.workers_per_integration.max(1)).unwrap_or(i32::MAX);
        let mut client = notes.pool.get().await?;
        let sealer = notes.sealer.as_deref();
        queue::settle_fetches(&mut client, sealer, Retry::new(settings), concurrency, done).await
    }

    fn refuse(&mut self, why: String) {
        self.result =
            Some(Err(FetchError::from(format!("what was fetched can't be stored: {why}"))));
    }
}

impl Ended for PushDone {
    async fn settle(notes: &Notes, done: &[Self]) -> Result<(), SyncError> {
        let mut client = notes.pool.get().await?;
        queue::settle_pushes(&mut client, Retry::new(&notes.handle.settings), done).await
    }

    fn refuse(&mut self, why: String) {
        self.result =
            Some(Err(PushError::new(format!("how the push went can't be stored: {why}"))));
    }
}

/// Whether it may be because of one of several: not where the database has no time, or is not there.
fn is_of_one(error: &SyncError) -> bool {
    !matches!(
        error,
        SyncError::Database(DbError::Busy | DbError::Unavailable(_) | DbError::TooSlow(_))
    )
}

fn warn(error: &SyncError, count: usize) {
    tracing::warn!(%error, count, "work of sync can't be noted: it will be done again");
}

/// Has what ends shortly after each other noted together.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Waits until something has ended, and gives what has; false if nothing can end any more.
    async fn gather<T>(
        &mut self,
        ended: &mut mpsc::UnboundedReceiver<T>,
        done: &mut Vec<T>,
    ) -> bool {
        if ended.recv_many(done, MOST_AT_ONCE).await == 0 {
            return false;
        }
        let rest = self.last.map_or(Duration::ZERO, |last| PACE.saturating_sub(last.elapsed()));
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
            while done.len() < MOST_AT_ONCE
                && let Ok(another) = ended.try_recv()
            {
                done.push(another);
            }
        }
        self.last = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::Config;
    use crate::secret::Secret;
    use crate::sync::SyncSettings;

    struct Done {
        number: u32,
        refused: Option<String>,
        noted: Arc<Mutex<Vec<(u32, bool)>>>,
    }

    impl Ended for Done {
        async fn settle(_: &Notes, done: &[Self]) -> Result<(), SyncError> {
            let is_bad = |one: &Self| one.number == 2 && one.refused.is_none();
            assert!(!done.iter().any(is_bad), "on purpose");
            let all = done.iter().map(|one| (one.number, one.refused.is_some()));
            done[0].noted.lock().expect("nobody panics under it").extend(all);
            Ok(())
        }

        fn refuse(&mut self, why: String) {
            self.refused = Some(why);
        }
    }

    #[tokio::test]
    async fn a_panic_is_of_one_and_ends_nothing() {
        let database_url = Secret::new("postgres://nobody@127.0.0.1:1/none".to_owned());
        let pool = crate::db::open(&Config { database_url, ..Config::default() }).expect("a URL");
        let handle = SyncHandle::new(SyncSettings::default());
        let notes = Arc::new(Notes::new(pool, None, handle));
        let (to, ended) = mpsc::unbounded_channel();
        let noted = Arc::default();
        for number in 1..=4 {
            notes.add(&to, Done { number, refused: None, noted: Arc::clone(&noted) });
        }
        drop(to);
        Arc::clone(&notes).run(ended).await;
        let noted = noted.lock().expect("nobody panics under it").clone();
        assert_eq!(noted, [(1, false), (2, true), (3, false), (4, false)]);
        assert_eq!(notes.unnoted(), 0);
    }
}
