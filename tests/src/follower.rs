//! A reader of replication with a sink that writes down what it hears.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::Result;
use integratedb_sidecar::replication::{
    Begin, Change, Commit, Connected, LogicalMessage, Lsn, Old, Reader, ReaderSettings, Relation,
    Row, Sink, Slot, Status, Truncate, Value,
};
use integratedb_sidecar::secret::Secret;
use tokio_util::sync::CancellationToken;

use crate::until;

/// A committed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub xid: u32,
    /// Where its commit ends.
    pub end: Lsn,
    /// Its changes: `+ t 1,a` for an insert, `~ t (1,a) 2,a` for an update, `- t (1,)` for a delete with the old row
    /// in brackets or the old key in angles, `0 t u` for a truncate, `! prefix content` for a message. NULL is
    /// nothing, an unchanged value `…`.
    pub changes: Vec<String>,
}

/// What the sink has heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Committed transactions in order.
    pub transactions: Vec<Transaction>,
    /// How many there were, and their changes, though they be not kept.
    pub count: (u64, u64),
    /// Messages of no transaction.
    pub messages: Vec<String>,
    /// Connections.
    pub connected: Vec<Connected>,
    /// Why connections ended.
    pub disconnected: Vec<String>,
    /// Why transactions may be missing.
    pub lost: Vec<String>,
    /// The latest position.
    pub position: Lsn,
    /// The latest time as of which all is delivered.
    pub fresh: Option<Instant>,
    /// How often roles changed.
    pub roles: u32,
    /// The last relation told.
    pub relation: Option<Relation>,
}

impl Heard {
    /// The changes of all transactions, one after the other.
    pub fn changes(&self) -> Vec<String> {
        self.transactions.iter().flat_map(|t| t.changes.clone()).collect()
    }
}

/// How the sink behaves.
#[derive(Default)]
pub struct Switches {
    /// It takes nothing.
    pub full: AtomicBool,
    /// It confirms nothing.
    pub forgetful: AtomicBool,
    /// It counts and keeps nothing.
    pub counting: AtomicBool,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    switches: Switches,
    waker: Mutex<Option<Waker>>,
}

struct Recorder {
    shared: Arc<Shared>,
    open: Option<(u32, Vec<String>)>,
    /// Changes of the open transaction.
    changes: u64,
}

impl Recorder {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared.heard.lock().expect("nobody panics while holding it")
    }

    fn add(&mut self, change: impl FnOnce() -> String) {
        self.changes += 1;
        if !self.shared.switches.counting.load(Ordering::SeqCst) {
            self.open.as_mut().expect("a transaction is open").1.push(change());
        }
    }
}

fn row(row: Row<'_>) -> String {
    let value = |value: Value<'_>| match value {
        Value::Null => String::new(),
        Value::Unchanged => "…".to_owned(),
        Value::Text(text) | Value::Binary(text) => String::from_utf8_lossy(text).into_owned(),
    };
    row.iter().map(value).collect::<Vec<_>>().join(",")
}

fn old(old: &Old<'_>) -> String {
    match old {
        Old::Key(key) => format!("<{}>", row(*key)),
        Old::Row(before) => format!("({})", row(*before)),
    }
}

fn message(message: &LogicalMessage<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("! {} {}", text(message.prefix), text(message.content))
}

impl Sink for Recorder {
    fn connected(&mut self, connected: &Connected) {
        assert!(self.open.is_none());
        let mut heard = self.heard();
        heard.position = connected.start;
        heard.connected.push(connected.clone());
    }

    fn disconnected(&mut self, why: &str) {
        self.open = None;
        self.heard().disconnected.push(why.to_owned());
    }

    fn lost(&mut self, why: &str) {
        self.heard().lost.push(why.to_owned());
    }

    fn begin(&mut self, begin: &Begin) {
        assert!(self.open.is_none(), "a transaction in a transaction");
        assert!(begin.final_lsn >= self.heard().position, "a transaction comes late");
        self.open = Some((begin.xid, Vec::new()));
        self.changes = 0;
    }

    fn change(&mut self, relation: &Arc<Relation>, change: &Change<'_>) {
        self.add(|| match change {
            Change::Insert { new } => format!("+ {} {}", relation.name, row(*new)),
            Change::Update { old: None, new } => format!("~ {} {}", relation.name, row(*new)),
            Change::Update { old: Some(before), new } => {
                format!("~ {} {} {}", relation.name, old(before), row(*new))
            }
            Change::Delete { old: before } => format!("- {} {}", relation.name, old(before)),
        });
        if !self.shared.switches.counting.load(Ordering::SeqCst) {
            self.heard().relation = Some(Relation::clone(relation));
        }
    }

    fn truncate(&mut self, relations: &[&Arc<Relation>], _: Truncate) {
        let mut names: Vec<&str> = relations.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        self.add(|| format!("0 {}", names.join(" ")));
    }

    fn message(&mut self, told: &LogicalMessage<'_>) {
        if told.transactional {
            self.add(|| message(told));
        } else {
            self.heard().messages.push(message(told));
        }
    }

    fn commit(&mut self, commit: &Commit) {
        let (xid, changes) = self.open.take().expect("a transaction is open");
        assert_eq!(xid, commit.xid);
        let more = self.changes;
        let keeps = !self.shared.switches.counting.load(Ordering::SeqCst);
        let mut heard = self.heard();
        assert!(commit.end_lsn > heard.position, "positions grow");
        heard.position = commit.end_lsn;
        heard.count.0 += 1;
        heard.count.1 += more;
        if keeps {
            heard.transactions.push(Transaction { xid, end: commit.end_lsn, changes });
        }
    }

    fn position(&mut self, position: Lsn) {
        assert!(self.open.is_none(), "a position inside of a transaction");
        let mut heard = self.heard();
        assert!(position > heard.position, "positions grow");
        heard.position = position;
    }

    fn fresh(&mut self, as_of: Instant) {
        self.heard().fresh = Some(as_of);
    }

    fn roles_changed(&mut self, _: &str) {
        self.heard().roles += 1;
    }

    fn confirmable(&self) -> Lsn {
        match self.shared.switches.forgetful.load(Ordering::SeqCst) {
            true => Lsn(0),
            false => self.heard().position,
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.switches.full.load(Ordering::SeqCst) {
            let waker = cx.waker().clone();
            *self.shared.waker.lock().expect("nobody panics while holding it") = Some(waker);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// A reader and what its sink has heard.
pub struct Follower {
    /// The reader.
    pub reader: Reader,
    shared: Arc<Shared>,
    cancel: CancellationToken,
}

impl Follower {
    /// Starts a reader with short times.
    pub fn start(url: &str, slot: Slot) -> Result<Self> {
        Self::start_with(url, slot, |_, _| {})
    }

    /// Starts a reader with other settings, or with a sink that behaves otherwise from the start on.
    pub fn start_with(
        url: &str,
        slot: Slot,
        adjust: impl FnOnce(&mut ReaderSettings, &Switches),
    ) -> Result<Self> {
        let mut settings = ReaderSettings::new("test", Secret::new(url.to_owned()), slot);
        settings.status_interval = Duration::from_millis(100);
        settings.probe_interval = Duration::from_millis(100);
        settings.patience = Duration::from_secs(3);
        settings.silence = Duration::from_secs(3);
        settings.retry = (Duration::from_millis(20), Duration::from_millis(200));
        let shared = Arc::new(Shared::default());
        adjust(&mut settings, &shared.switches);
        let cancel = CancellationToken::new();
        let sink = Recorder { shared: Arc::clone(&shared), open: None, changes: 0 };
        let reader = Reader::start(settings, vec![Box::new(sink)], cancel.clone())?;
        Ok(Self { reader, shared, cancel })
    }

    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        self.shared.heard.lock().expect("nobody panics while holding it").clone()
    }

    /// How its sink behaves.
    pub fn switches(&self) -> &Switches {
        &self.shared.switches
    }

    /// Lets the sink take things again.
    pub fn take_again(&self) {
        self.shared.switches.full.store(false, Ordering::SeqCst);
        let waker = self.shared.waker.lock().expect("nobody panics while holding it").take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Waits until there were so many connections.
    pub async fn connections(&self, count: usize) -> Result<()> {
        let what = format!("{count} connections");
        self.status(&what, |_| self.heard().connected.len() >= count).await.map(drop)
    }

    /// Waits until the status is as it should be; gives it.
    pub async fn status(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Status> {
        let waited = until(what, async || Ok(is_so(&self.reader.status()))).await;
        waited.map_err(|error| error.context(format!("{:?}", self.reader.status())))?;
        Ok(self.reader.status())
    }

    /// Waits until all that is committed now is delivered; gives what was heard.
    pub async fn catch_up(&self) -> Result<Heard> {
        let now = Instant::now();
        let caught = until("all is delivered", async || {
            Ok(self.reader.progress().is_streaming()
                && self.heard().fresh.is_some_and(|f| f >= now))
        });
        caught.await.map_err(|error| {
            error.context(format!("{:?}; {:?}", self.reader.status(), self.heard().lost))
        })?;
        Ok(self.heard())
    }

    /// Stops the reader.
    pub async fn stop(self) -> Heard {
        self.cancel.cancel();
        self.reader.stopped().await;
        let heard = self.shared.heard.lock().expect("nobody panics while holding it");
        heard.clone()
    }
}
