//! Makes the caches of workspaces known to the proxy, as the database has them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::Mutex;

use super::credentials::Credentials;
use super::settings::Settings;
use super::store::{self, Row};
use super::{Mistake, origin};
use crate::cache::Budget;
use crate::db::{self, DbError, Pool};
use crate::proxy::registry::Registry;
use crate::proxy::{CacheId, CacheSettings, Share};
use crate::reach::Reach;
use crate::seal::{Purpose, Sealer};
use crate::workspaces::WorkspaceSettings;

/// See the module.
pub(crate) struct CacheKeeper {
    settings: WorkspaceSettings,
    reach: Reach,
    sealer: Option<Sealer>,
    pool: Pool,
    registry: Option<Arc<Registry>>,
    /// Host and port that clients connect to, where anybody knows.
    clients: Option<(String, u16)>,
    /// Whoever reads the database and tells the proxy: so what was read later is told later.
    looking: Mutex<Looked>,
    /// The memory that all caches may take together.
    budget: Budget,
    /// The clients that all caches may have together, and of that those of each workspace that has a cache.
    clients_of_all: Arc<Share>,
    clients_of: std::sync::Mutex<HashMap<i64, Weak<Share>>>,
}

/// What was found at the last look.
#[derive(Default)]
struct Looked {
    /// How often memory had been given back before.
    returns: u64,
}

impl CacheKeeper {
    /// `proxy` is where the proxy of this process listens, if it has one. The error says what is wrong with the settings.
    pub(crate) fn new(
        settings: &WorkspaceSettings,
        pool: Pool,
        registry: Option<Arc<Registry>>,
        proxy: Option<SocketAddr>,
    ) -> Result<Self, String> {
        let sealer = settings.key_file.as_ref().map(|file| {
            Sealer::from_file(Purpose::Caches, file)
                .map_err(|why| format!("workspaces.key_file {}: {why}", file.display()))
        });
        // Nobody can connect to all addresses at once.
        let host = |address: SocketAddr| match address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            ip => ip.to_string(),
        };
        let host = settings.hostname.clone().or_else(|| proxy.map(host));
        let port = settings.port.or_else(|| proxy.map(|address| address.port()));
        Ok(Self {
            settings: settings.clone(),
            reach: Reach::from(settings).besides(proxy),
            sealer: sealer.transpose()?,
            pool,
            registry,
            clients: host.zip(port),
            looking: Mutex::default(),
            budget: Budget::new(settings.max_total_bytes),
            clients_of_all: Share::new(
                "all workspaces",
                settings.max_clients_total,
                settings.max_statement_bytes_total,
                None,
            ),
            clients_of: std::sync::Mutex::default(),
        })
    }

    /// What clients of a cache connect by, without who they are; `None` where nobody says where the proxy is.
    pub(crate) fn connection_string(&self, id: &str) -> Option<String> {
        let (host, port) = self.clients.as_ref()?;
        let host = match host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.clone(),
        };
        Some(format!(
            "postgres://[USERNAME]:[PASSWORD]@{host}:{port}/[DATABASE]?application_name={id}"
        ))
    }

    /// The most caches of a workspace.
    pub(crate) const fn most(&self) -> u32 {
        self.settings.max_caches
    }

    /// The most caches of all workspaces together.
    pub(crate) const fn most_in_all(&self) -> u32 {
        self.settings.max_caches_total
    }

    /// Asks whether an origin can be one: another Postgres answers there.
    pub(crate) async fn probe(&self, hostname: &str, port: u16) -> Result<(), Mistake> {
        let is_here =
            |(host, own): &(String, u16)| host.eq_ignore_ascii_case(hostname) && *own == port;
        if self.clients.as_ref().is_some_and(is_here) {
            return Err(("hostname", "is this proxy itself, and not an origin".to_owned()));
        }
        origin::probe(&self.reach, hostname, port).await
    }

    /// A row with other settings in it; the errors are for the request's fields.
    pub(crate) fn configured(
        &self,
        row: &Row,
        mut settings: Settings,
    ) -> Result<Row, Vec<Mistake>> {
        let mistakes = settings.check(self.settings.max_cache_bytes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let room = self.check_room(&row.id, settings.max_bytes());
        room.map_err(|why| vec![("caching.max_bytes", why)])?;
        // What can't be read any more is not there: its passwords have to be given again.
        let sealed = row.credentials.as_deref();
        let before = Credentials::open(&row.id, sealed, self.sealer.as_ref()).unwrap_or_default();
        let credentials = settings.credentials(&row.hostname, row.port, &before)?;
        let sealed = match &self.sealer {
            None if credentials.is_any() => {
                let field = if settings.has_verifiers() { "verifiers" } else { "caching" };
                let why = "needs a password to be kept, for which the operator has to set workspaces.key_file";
                return Err(vec![(field, why.to_owned())]);
            }
            None => None,
            Some(sealer) => credentials.seal(&row.id, sealer),
        };
        settings.take_passwords();
        let settings =
            serde_json::to_value(settings).expect("settings are texts, numbers and truths");
        Ok(Row { settings, credentials: sealed, ..row.clone() })
    }

    /// Whether a cache may keep so much, in place of what it may now.
    fn check_room(&self, id: &str, bytes: usize) -> Result<(), String> {
        let id = CacheId::try_from(id.to_owned()).ok();
        let cache = self.registry.as_ref().zip(id).and_then(|(registry, id)| registry.cache(&id));
        let given_up = cache.as_ref().and_then(|cache| Some(cache.following()?.claimed()));
        self.budget.check(bytes, given_up.unwrap_or(0))
    }

    /// What the clients of a workspace's caches count towards.
    fn clients_of(&self, workspace: i64) -> Arc<Share> {
        let mut all = self.clients_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = all.get(&workspace).and_then(Weak::upgrade) {
            return share;
        }
        all.retain(|_, share| share.strong_count() > 0);
        let of_all = Arc::clone(&self.clients_of_all);
        let settings = &self.settings;
        let share = Share::new(
            "a workspace",
            settings.max_clients,
            settings.max_statement_bytes,
            Some(of_all),
        );
        all.insert(workspace, Arc::downgrade(&share));
        share
    }

    /// The proxy's settings of a cache; the error says why it can't be made.
    fn made(&self, row: &Row) -> Result<CacheSettings, String> {
        let sealed = row.credentials.as_deref();
        let credentials = Credentials::open(&row.id, sealed, self.sealer.as_ref())?;
        let mut made = row.settings()?.proxy(&row.hostname, row.port, &credentials, &self.reach)?;
        made.share = Some(self.clients_of(row.workspace));
        if let Some(caching) = &mut made.caching {
            caching.budget = Some(self.budget.clone());
        }
        Ok(made)
    }

    /// Tells the proxy of what has changed since the last look.
    pub(crate) async fn look(&self) -> Result<(), DbError> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let mut looked = self.looking.lock().await;
        let client = self.pool.get().await?;
        let there = store::versions(&**client).await?;
        let known = registry.made();
        for id in known.keys().filter(|id| !there.contains_key(id)) {
            registry.remove(id);
        }
        // Those that found no room before may find it now.
        let returns = self.budget.returns();
        let has_room = looked.returns != returns;
        let is_new = |(id, version): &(&CacheId, &i64)| {
            known.get(id) != Some(version) || has_room && registry.error(id).is_some()
        };
        let mut new: Vec<_> = there.iter().filter(is_new).map(|(id, _)| id).collect();
        // Where there is not room for all, it is the same ones that find it after each start.
        new.sort();
        for id in new {
            self.tell(&client, registry, id).await?;
        }
        looked.returns = returns;
        registry.knows_all();
        Ok(())
    }

    /// Tells the proxy of a cache that was just changed. If that fails, the next look does it.
    pub(crate) async fn take(&self, id: &CacheId) {
        let Some(registry) = &self.registry else { return };
        let _looking = self.looking.lock().await;
        let told = async {
            let client = self.pool.get().await?;
            self.tell(&client, registry, id).await
        };
        if let Err(error) = told.await {
            tracing::warn!(cache = %id, %error, "a changed cache can't be read; it is tried again soon");
        }
    }

    async fn tell(
        &self,
        client: &tokio_postgres::Client,
        registry: &Registry,
        id: &CacheId,
    ) -> Result<(), DbError> {
        let Some(row) = store::find(client, id.as_str()).await? else {
            registry.remove(id);
            return Ok(());
        };
        // With its rules from the beginning: one may be that something is not kept.
        let rules = db::rules::of(client, id.as_str()).await?;
        registry.put(id, row.version, self.made(&row));
        let cache = registry.cache(id);
        if let Some(following) = cache.as_ref().and_then(|cache| cache.following()) {
            following.engine().set_rules(rules);
        }
        Ok(())
    }
}
