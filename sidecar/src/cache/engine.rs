//! What a session asks of the cache.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use integratedb_cache::{
    Answer, Dependency, Entry, FenceId, FillResult, FillTicket, Flights, Joined, Key, Lsn,
    Observer, Outcome, Reached, Refusal, Removal, Scope, Settings, Snapshot, Store, TableId,
};
use integratedb_template::Outline;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use super::awaited::Awaited;
use super::description::{Plan, Table};
use super::disk::{Disk, Names};
use super::identity::Identity;
use super::keeper::Task;
use super::key::Hasher;
use super::rules::{Decision, Rules};
use super::settings::{CachingSettings, Mode};
use crate::db::{DbError, Pool, rules};
use crate::proxy::observe::{Seen, Template};
use crate::proxy::{Params, PoolKey};
use crate::text_array;

/// Statements that are remembered; beyond, all are asked for anew.
const PLANS: usize = 50_000;

/// The longest description of a statement. In memory it may take fifty times as much.
pub(crate) const DESCRIPTION: usize = 128 << 10;

/// How many statements are explained at once.
const EXPLAINED: usize = 2;

/// Sessions' identities that are remembered.
const IDENTITIES: usize = 10_000;

/// What an entry's hits are counted to.
pub(crate) struct Label {
    pub(crate) template: Arc<Template>,
}

/// Counts what was dropped, by template, and passes all on to who else follows it.
struct Losses {
    next: Option<Box<dyn Observer<Label>>>,
}

impl Observer<Label> for Losses {
    fn stored(&self, key: Key, entry: &Arc<Entry<Label>>) {
        if let Some(next) = &self.next {
            next.stored(key, entry);
        }
    }

    fn removed(&self, key: Key, entry: &Entry<Label>, why: Removal) {
        if matches!(why, Removal::Row | Removal::Table | Removal::Evicted) {
            entry.label.template.cached.loss();
        }
        if let Some(next) = &self.next {
            next.removed(key, entry, why);
        }
    }
}

/// By what sessions are known that are the same to the origin when they begin.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    wanted: PoolKey,
    settings: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Who {
    /// The database it asked for.
    pub(crate) fn database(&self) -> &[u8] {
        &self.wanted.database
    }

    /// A session that asked for this and has set that.
    pub(crate) fn new(wanted: PoolKey, settings: &Params) -> Self {
        let settings = settings
            .iter()
            .filter(|(name, _)| *name != b"application_name")
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        Self { wanted, settings }
    }
}

/// An answer that was fetched.
pub(crate) struct Fetched<'a> {
    pub(crate) template: &'a Arc<Template>,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) key: Key,
    pub(crate) ticket: FillTicket,
    pub(crate) answer: Answer,
    pub(crate) dependencies: Vec<Dependency>,
    /// What was visible before it was read.
    pub(crate) snapshot: Snapshot,
    /// Where the log ended after it was read.
    pub(crate) position: Lsn,
    /// How long the origin took.
    pub(crate) cost: Duration,
}

/// OIDs of the extension's functions in the origin's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Functions {
    pub(crate) describe_query: u32,
    pub(crate) session_key: u32,
}

/// What is kept of one database of an origin.
pub(crate) struct Engine {
    settings: CachingSettings,
    database: Vec<u8>,
    hasher: Hasher,
    store: Arc<Store<Label>>,
    flights: Arc<Flights>,
    plans: Mutex<HashMap<u128, Arc<Plan>>>,
    identities: Mutex<HashMap<Who, (Identity, u64)>>,
    /// How often what was known of sessions has become void.
    epoch: AtomicU64,
    functions: RwLock<Option<Functions>>,
    /// Settings of applications that some statement depends on.
    names: Mutex<BTreeSet<String>>,
    /// The numbers of columns that some entry may depend on, by table and name.
    columns: Mutex<HashMap<u32, HashMap<String, i16>>>,
    rules: RwLock<Arc<Rules>>,
    /// Held from when rules are read to when they are set, so that older ones never come after newer ones.
    reading_rules: tokio::sync::Mutex<()>,
    tasks: UnboundedSender<Task>,
    awaited: Awaited,
    /// Some rule shares answers across roles.
    some_share_roles: AtomicBool,
    retired: AtomicBool,
    disk: Option<Disk>,
    /// For those who ask over REST what would be done with a query.
    explaining: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Keeps answers of this database; `key` makes the hashes they are found by, and is the disk's if there is one. What
    /// others have to do for it is sent to `tasks`.
    pub(crate) fn new(
        settings: CachingSettings,
        database: Vec<u8>,
        key: [u8; 16],
        tasks: UnboundedSender<Task>,
        disk: Option<Disk>,
    ) -> Self {
        let mut limits = Settings::new(u128::from_ne_bytes(key), settings.max_bytes);
        limits.max_entry_bytes = settings.max_entry_bytes;
        limits.max_age = settings.max_age();
        limits.faults = settings.faults;
        limits.disk_only = settings.disk.as_ref().is_some_and(|disk| disk.only);
        let next = disk.as_ref().map(Disk::observer);
        let store = Store::observed(limits, Instant::now(), Box::new(Losses { next }));
        // Those under which what comes back was kept, until others are known.
        let rules = disk.as_ref().map(Disk::rules).unwrap_or_default();
        let known = disk.as_ref().map(|disk| disk.names().clone()).unwrap_or_default();
        let mut columns: HashMap<u32, HashMap<String, i16>> = HashMap::new();
        for (table, name, column) in known.columns {
            columns.entry(table).or_default().insert(name, column);
        }
        Self {
            database,
            hasher: Hasher::new(key),
            store: Arc::new(store),
            flights: Flights::new(),
            plans: Mutex::default(),
            identities: Mutex::default(),
            epoch: AtomicU64::new(1),
            functions: RwLock::default(),
            names: Mutex::new(known.settings.into_iter().collect()),
            columns: Mutex::new(columns),
            tasks,
            awaited: Awaited::default(),
            some_share_roles: AtomicBool::new(rules.some_share_roles()),
            rules: RwLock::new(Arc::new(rules)),
            reading_rules: tokio::sync::Mutex::default(),
            retired: AtomicBool::new(false),
            disk,
            explaining: Semaphore::new(EXPLAINED),
            settings,
        }
    }

    /// For those who ask what would be done with a query, which takes a connection.
    pub(crate) const fn explaining(&self) -> &Semaphore {
        &self.explaining
    }

    /// What is kept beyond a restart, if anything is.
    pub(crate) const fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// What changes are told by, and sessions are asked for.
    pub(super) fn names(&self) -> Names {
        let columns = lock(&self.columns);
        let mut columns: Vec<_> = columns
            .iter()
            .flat_map(|(table, of)| of.iter().map(|(name, column)| (*table, name.clone(), *column)))
            .collect();
        columns.sort_unstable();
        Names { columns, settings: lock(&self.names).iter().cloned().collect() }
    }

    pub(crate) const fn settings(&self) -> &CachingSettings {
        &self.settings
    }

    /// Whether it is this database whose answers are kept; without replication, any is.
    pub(crate) fn is_of(&self, database: &[u8]) -> bool {
        *self.database == *database
    }

    /// The database whose answers are kept.
    pub(super) fn database(&self) -> &[u8] {
        &self.database
    }

    pub(crate) const fn store(&self) -> &Arc<Store<Label>> {
        &self.store
    }

    /// Changes whenever what is known of sessions becomes void.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What a session like this is, if another was asked.
    pub(crate) fn identity(&self, who: &Who) -> Option<Identity> {
        let epoch = self.epoch();
        lock(&self.identities).get(who).filter(|(_, at)| *at == epoch).map(|(known, _)| *known)
    }

    /// Takes what the origin has said of a session that was asked at `epoch`.
    pub(crate) fn learn_identity(
        &self,
        who: Option<&Who>,
        epoch: u64,
        json: &[u8],
    ) -> Option<Identity> {
        let identity = match Identity::read(json, &self.hasher) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::warn!(%error, "integratedb.session_key gave what is not understood");
                return None;
            }
        };
        if let Some(who) = who {
            let mut identities = lock(&self.identities);
            if identities.len() >= IDENTITIES {
                identities.clear();
            }
            identities.insert(who.clone(), (identity, epoch));
        }
        (epoch == self.epoch()).then_some(identity)
    }

    /// The names of settings that belong to a session's identity, as an array in its text form.
    pub(crate) fn settings_in_key(&self) -> String {
        text_array::of_texts(&*lock(&self.names))
    }

    fn subject(&self, outline: &Outline, types: &[u8], identity: &Identity) -> u128 {
        self.hasher.hash(&[&outline.tokens, types, &identity.hash.to_ne_bytes()])
    }

    /// What is known of a statement.
    pub(crate) fn plan(
        &self,
        seen: &Seen,
        outline: &Outline,
        types: &[u8],
        identity: &Identity,
    ) -> Option<Arc<Plan>> {
        let plan = lock(&self.plans).get(&self.subject(outline, types, identity)).cloned()?;
        // A constant may be the name of a setting: then it holds for its own text only.
        let is_of_all = plan.description.settings.is_empty();
        (is_of_all || plan.text == seen.hash).then_some(plan)
    }

    /// Takes what the origin has said of a statement.
    pub(crate) fn learn_plan(
        &self,
        seen: &Seen,
        outline: &Outline,
        types: &[u8],
        identity: Option<&Identity>,
        json: &[u8],
    ) -> Option<Arc<Plan>> {
        let template = &seen.template;
        if json.len() > DESCRIPTION {
            tracing::warn!(bytes = json.len(), "integratedb.describe_query gave too much");
            return None;
        }
        let plan = match Plan::read(json, outline, seen.hash) {
            Ok(plan) => Arc::new(plan),
            Err(error) => {
                tracing::warn!(%error, "integratedb.describe_query gave what is not understood");
                return None;
            }
        };
        // One from before a change that is known of would be wrong for longer than that is on its way.
        if plan.description.error.is_none() && !self.store.understands(&plan.snapshot) {
            return None;
        }
        template.cached.set_plan(&plan);
        let has_new_names = {
            let mut names = lock(&self.names);
            let before = names.len();
            names.extend(plan.description.settings.iter().cloned());
            names.len() > before
        };
        // What was asked before lacks them.
        if has_new_names {
            self.forget_sessions();
        }
        {
            let mut columns = lock(&self.columns);
            for (table, pin) in plan.all_pins() {
                let of = columns.entry(table).or_default();
                if of.get(&pin.name) != Some(&pin.column) {
                    // One number has one name; another one is from before it was renamed.
                    of.retain(|_, number| *number != pin.column);
                    of.insert(pin.name.clone(), pin.column);
                }
            }
        }
        // A text that the origin refuses now it may take after the next change.
        if let Some(identity) = identity
            && plan.description.error.is_none()
        {
            let mut plans = lock(&self.plans);
            if plans.len() >= PLANS {
                plans.clear();
            }
            plans.insert(self.subject(outline, types, identity), Arc::clone(&plan));
        }
        if matches!(self.decide(template, &plan), Decision::Keep(_)) {
            let tables = plan.description.tables.iter();
            let (told, published): (Vec<_>, Vec<_>) =
                tables.partition(|table| matches!(table.kind.as_str(), "m" | "p"));
            let ids = |tables: Vec<&Table>| tables.iter().map(|t| TableId(t.oid)).collect();
            // The keeper ends with the process.
            let _ = self.tasks.send(Task::Follow { published: ids(published), told: ids(told) });
        }
        Some(plan)
    }

    /// The number of a column that an entry may depend on.
    pub(crate) fn column(&self, table: u32, name: &str) -> Option<i16> {
        lock(&self.columns).get(&table)?.get(name).copied()
    }

    /// What people have decided.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is kept without a rule.
    pub(crate) fn mode(&self) -> Mode {
        self.rules().mode.unwrap_or(self.settings.mode)
    }

    /// What is done with a statement's answers.
    pub(crate) fn decide(&self, template: &Template, plan: &Plan) -> Decision {
        let rules = self.rules();
        let mode = rules.mode.unwrap_or(self.settings.mode);
        rules.decide(template.id, plan, mode, self.settings.replication)
    }

    /// Whether answers of a statement are kept.
    pub(crate) fn keeps(&self, template: &Template, plan: &Plan) -> bool {
        self.can_describe() && !matches!(self.decide(template, plan), Decision::No(_)) && {
            let hits = template.cached.hits.load(Ordering::Relaxed);
            self.settings.eager || template.cached.is_worth_keeping(template.figures.mean(hits))
        }
    }

    /// The extension's functions, once they are known.
    pub(crate) fn functions(&self) -> Option<Functions> {
        *self.functions.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_functions(&self, functions: Option<Functions>) {
        *self.functions.write().unwrap_or_else(PoisonError::into_inner) = functions;
    }

    /// Whether anything can be found out about statements.
    pub(crate) fn can_describe(&self) -> bool {
        self.functions().is_some() && !self.is_retired()
    }

    /// Whether a write has to be fenced: else, nothing is served before the origin was asked anew how far it is.
    pub(crate) fn follows(&self) -> bool {
        !self.store.is_suspended()
    }

    /// Whether anything that replication must see may be answered now.
    pub(crate) fn serves(&self) -> bool {
        self.store.off(Instant::now()).is_none()
    }

    /// A new connection, or another origin: nothing of what was is of use.
    pub(super) fn start_anew(&self, why: &'static str) {
        self.forget_columns();
        self.forget_schema();
        self.store.flush(why);
        self.awaited.forget();
    }

    /// The reader has a connection, and delivers what commits from here on.
    pub(super) fn connected(&self, position: Lsn) {
        self.store.advance(position);
        self.store.resume();
    }

    /// What an answer is found by.
    pub(crate) fn key(
        &self,
        seen: &Seen,
        statement: u128,
        identity: &Identity,
        parameters: &[u8],
    ) -> Key {
        let identity = match self.shares_roles(&seen.template) {
            true => identity.hash_without_role,
            false => identity.hash,
        };
        Key(self.hasher.key(statement, identity, parameters))
    }

    /// Whether a rule shares answers of this template across roles.
    fn shares_roles(&self, template: &Template) -> bool {
        self.some_share_roles.load(Ordering::Relaxed) && self.rules().shares_roles(template.id)
    }

    /// Nothing is given from here any more: another engine has taken over.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.store.flush("its settings have changed");
        lock(&self.plans).clear();
        lock(&self.identities).clear();
    }

    /// Whether another engine has taken over.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Drops what depends on a table, given as `schema.name`.
    pub(crate) fn purge_table(&self, name: &str) -> usize {
        let tables: BTreeSet<u32> = lock(&self.plans)
            .values()
            .flat_map(|plan| plan.tables_named(name).collect::<Vec<_>>())
            .collect();
        tables.into_iter().map(|table| self.store.purge_table(TableId(table))).sum()
    }

    /// Counts an answer that is fetched to be kept.
    pub(crate) fn note_miss(&self, template: &Template) {
        template.cached.miss();
    }

    /// Goes first in fetching an answer, or waits for who does.
    pub(crate) fn join(&self, key: Key) -> Joined {
        self.flights.join(key)
    }

    /// An answer is about to be fetched.
    pub(crate) fn begin(&self) -> FillTicket {
        self.store.begin()
    }

    /// Takes an answer that was fetched, if it can be kept; else says why not.
    pub(crate) fn keep(&self, fetched: Fetched<'_>) -> Result<(), &'static str> {
        // Asked after the fetch has begun: one that began before is refused by the store.
        if self.is_retired() {
            return Err("its settings have changed");
        }
        let Fetched { template, plan, key, ticket, answer, dependencies, snapshot, position, cost } =
            fetched;
        let now = Instant::now();
        template.cached.watch(key, answer.rows(), now);
        let (until, seen_by_replication) = match self.decide(template, plan) {
            Decision::Keep(ttl) => (ttl.map(|ttl| now + ttl), true),
            Decision::Age(ttl) => (Some(now + ttl), false),
            Decision::No(_) => return Err("it is not one to keep"),
        };
        let result = FillResult {
            answer,
            dependencies,
            snapshot,
            position,
            understood: plan.snapshot.clone(),
            cost,
            label: Arc::new(Label { template: Arc::clone(template) }),
            until,
            seen_by_replication,
        };
        match self.store.finish(ticket, key, result, now) {
            Outcome::Stored => {
                template.cached.stored.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Outcome::Refused(why) => {
                if why == Refusal::Schema {
                    lock(&self.plans).retain(|_, known| !Arc::ptr_eq(known, plan));
                }
                Err(why.as_str())
            }
        }
    }

    /// Nothing that may be older than what was written is given from here on.
    pub(crate) fn fence(&self, scopes: &[Scope]) -> FenceId {
        self.store.fence(scopes)
    }

    /// A fence falls once this position is applied.
    pub(crate) fn settle(&self, fence: FenceId, position: Lsn) {
        self.store.settle(fence, position);
    }

    /// Ready once this position is applied. The reader asks for it, should it not come by itself.
    pub(crate) fn reached(&self, position: Lsn) -> Reached {
        self.awaited.expect(position);
        self.store.reached(position)
    }

    /// A wait for a position is over.
    pub(crate) fn note_wait(&self, took: Duration) {
        self.awaited.note(took);
    }

    /// What sessions wait for.
    pub(super) const fn awaited(&self) -> &Awaited {
        &self.awaited
    }

    /// Whether to wait for the reader is expected to take less time than to ask the origin again.
    pub(crate) fn is_worth_waiting(&self, cost: Duration) -> bool {
        self.settings.eager || self.awaited.usually() < cost
    }

    /// What is known of sessions is void: roles or settings have changed.
    pub(crate) fn forget_sessions(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        lock(&self.identities).clear();
    }

    /// Columns may have other names.
    pub(super) fn forget_columns(&self) {
        lock(&self.columns).clear();
    }

    /// What is known of statements and sessions is void: the schema has changed.
    pub(crate) fn forget_schema(&self) {
        lock(&self.plans).clear();
        self.forget_sessions();
    }

    /// Takes the rules of a cache from the database.
    pub(crate) async fn take_rules(&self, pool: &Pool, cache: &str) -> Result<(), DbError> {
        let _turn = self.reading_rules.lock().await;
        self.set_rules(rules::of(&**pool.get().await?, cache).await?);
        Ok(())
    }

    /// The rules from now on. What they forbid is dropped.
    pub(crate) fn set_rules(&self, rules: Rules) {
        if *self.rules() == rules {
            return;
        }
        let some_share = rules.some_share_roles();
        self.some_share_roles.store(some_share, Ordering::Relaxed);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules.clone());
        // What was kept by the former ones may be so for longer, or for more, than the new ones say.
        let dropped = self.store.purge_all();
        if let Some(disk) = &self.disk {
            disk.note_rules(rules);
        }
        tracing::info!(dropped, "rules have changed");
    }
}
