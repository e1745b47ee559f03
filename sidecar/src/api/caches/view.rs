//! A cache as REST shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::app::App;
use crate::proxy::cache::Cache;
use crate::proxy::{Auth, CacheId, PoolMode};
use crate::workspaces::caches::Row;

/// A cache as it is configured and used now.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct CacheView {
    /// What clients name it by.
    #[schema(example = "cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516")]
    id: String,
    /// The workspace that it belongs to; null of a cache of the configuration file.
    #[schema(example = 1)]
    workspace: Option<i64>,
    /// Unique in its workspace; the id of a cache of the configuration file.
    #[schema(example = "shop")]
    name: String,
    /// `postgres`.
    #[serde(rename = "type")]
    #[schema(example = "postgres")]
    kind: &'static str,
    /// Where its origin is; null of a cache of the configuration file.
    #[schema(example = "db.example.com")]
    hostname: Option<String>,
    /// Null of a cache of the configuration file.
    #[schema(example = 5432)]
    port: Option<u16>,
    /// Hosts and ports of the origin.
    #[schema(example = "db.example.com:5432")]
    origin: String,
    /// What clients connect by, once user, password and database are put into it. Null of a cache of the configuration file,
    /// and where nobody has said where the proxy is.
    #[schema(
        example = "postgres://[USERNAME]:[PASSWORD]@cache.example.com:5432/[DATABASE]?application_name=cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516"
    )]
    connection_string: Option<String>,
    /// Why it can't be as it is set: it goes on as it was before, or serves nobody. Null if it is as it is set.
    error: Option<String>,
    auth: Auth,
    pool_mode: PoolMode,
    /// The most connections of one pool.
    #[schema(example = 20)]
    pool_size: usize,
    /// Clients whose session uses the cache now.
    #[schema(example = 3)]
    clients: usize,
    /// Those of them that keep their connection between transactions, because of what they have done.
    #[schema(example = 0)]
    pinned: usize,
    pools: Vec<PoolView>,
}

/// Connections that clients share.
#[derive(Serialize, ToSchema)]
struct PoolView {
    #[schema(example = "app")]
    user: String,
    #[schema(example = "shop")]
    database: String,
    #[schema(example = 1)]
    idle: usize,
    #[schema(example = 2)]
    used: usize,
    /// Clients that wait for a connection.
    #[schema(example = 0)]
    waiting: usize,
}

/// What can be changed of a cache: what its entity tag stands for, and what the audit log tells of it.
#[derive(Serialize)]
pub(super) struct Settable<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    hostname: &'a str,
    port: u16,
}

impl<'a> Settable<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        Self { name: &row.name, kind: "postgres", hostname: &row.hostname, port: row.port }
    }
}

fn pools(cache: &Cache) -> Vec<PoolView> {
    let pools = cache.figures().into_iter().map(|(user, database, figures)| PoolView {
        user,
        database,
        idle: figures.idle,
        used: figures.used,
        waiting: figures.waiting,
    });
    pools.collect()
}

impl CacheView {
    /// A cache of the configuration file.
    pub(super) fn of_file(cache: &Cache) -> Self {
        let settings = cache.settings();
        Self {
            id: cache.id().to_string(),
            workspace: None,
            name: cache.id().to_string(),
            kind: "postgres",
            hostname: None,
            port: None,
            origin: cache.origin().describe(),
            connection_string: None,
            error: None,
            auth: settings.auth,
            pool_mode: settings.pool_mode,
            pool_size: settings.pool_size,
            clients: cache.clients(),
            pinned: cache.pinned(),
            pools: pools(cache),
        }
    }

    /// A cache of a workspace, which this process may not know of yet.
    pub(super) fn of_workspace(app: &App, row: &Row) -> Self {
        let id = CacheId::try_from(row.id.clone()).ok();
        let proxy = app.proxy().zip(id.as_ref());
        let cache = proxy.and_then(|(proxy, id)| proxy.cache(id));
        let error = proxy.and_then(|(proxy, id)| proxy.error(id));
        // What can't be read is told as an error, and nothing is set then.
        let (auth, pool_mode, pool_size) = row.settings().unwrap_or_default().pooling();
        Self {
            id: row.id.clone(),
            workspace: Some(row.workspace),
            name: row.name.clone(),
            kind: "postgres",
            hostname: Some(row.hostname.clone()),
            port: Some(row.port),
            origin: format!("{}:{}", row.hostname, row.port),
            connection_string: app.caches().connection_string(&row.id),
            error,
            auth,
            pool_mode,
            pool_size,
            clients: cache.as_ref().map_or(0, |cache| cache.clients()),
            pinned: cache.as_ref().map_or(0, |cache| cache.pinned()),
            pools: cache.as_ref().map(|cache| pools(cache)).unwrap_or_default(),
        }
    }
}
