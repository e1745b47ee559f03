//! Pages of lists: each thing once and in order, whatever comes and goes meanwhile; and what is refused.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{
    Cached, Cluster, Database, Reply, Sidecar, be_notified, key_file, say_tenant, until,
};
use tempfile::NamedTempFile;

struct World {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    _key: NamedTempFile,
}

impl World {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let key = key_file()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.sync.enabled = false;
            be_notified(config, &key);
        })
        .await?;
        Ok(Self { _cluster: cluster, database, sidecar, _key: key })
    }

    async fn made(&self, path: &str, body: Value) -> Result<i64> {
        let made = self.sidecar.post(path, body).await?;
        made.body["data"]["id"].as_i64().with_context(|| format!("{path}: {made:?}"))
    }

    async fn tenant(&self, id: i64) -> Result<()> {
        say_tenant(&self.sidecar, id, "https://127.0.0.1:1").await
    }
}

/// Where the next page is.
fn link(reply: &Reply) -> Result<Option<String>> {
    let Some(link) = reply.headers.get("link") else { return Ok(None) };
    let link = link.to_str()?;
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Ok(Some(target.with_context(|| link.to_owned())?.to_owned()))
}

/// All that a list has, page by page along its links, none of more than two.
async fn walk(api: &Sidecar, list: &str) -> Result<Vec<Value>> {
    let sign = if list.contains('?') { '&' } else { '?' };
    let mut path = Some(format!("{list}{sign}limit=2"));
    let mut all = Vec::new();
    while let Some(at) = path.take() {
        let page = api.get(&at).await?;
        let data = page.body["data"].as_array().with_context(|| format!("{at}: {page:?}"))?;
        ensure!(data.len() <= 2 && all.len() < 100, "{at}: {page:?}");
        all.extend(data.iter().cloned());
        path = link(&page)?;
        if let Some(next) = page.body.get("next") {
            assert_eq!(next.is_null(), path.is_none(), "{at}: {page:?}");
        }
    }
    Ok(all)
}

#[tokio::test]
async fn every_list_is_walked_along_its_links() -> Result<()> {
    let world = World::start().await?;
    let api = &world.sidecar;
    for name in ["ada", "ben", "cleo", "dora"] {
        let user = json!({"user": {"username": name, "password": "correct horse"}});
        world.made("/api/v1/users", user).await?;
        world.made("/api/v1/stakeholders", json!({"stakeholder": {"name": name}})).await?;
    }
    for id in [16, 17, 18] {
        world.tenant(id).await?;
    }
    let tenant = "/api/v1/sync/tenants/16";
    let class = json!({"class": {"key": "id", "path": "/plans/{id}", "member": "plan"}});
    for name in ["One", "Three", "Two"] {
        assert_eq!(api.put(&format!("{tenant}/classes/{name}"), class.clone()).await?.status, 201);
        let request =
            |method: &str| json!({"method": method, "url": "https://127.0.0.1:1/{{ key }}"});
        let integration = json!({"integration": {"name": name, "kind": "http",
            "settings": {"upsert": request("PUT"), "delete": request("DELETE")}}});
        world.made(&format!("{tenant}/integrations"), integration).await?;
    }
    let stakeholder = "/api/v1/stakeholders/1";
    let socket = |name: &str| json!({"type": "SOCKET", "name": name});
    let channels = json!([socket("one"), socket("three"), socket("two")]);
    let body = json!({"data": {"match": [], "channels": channels}});
    let put = api.put(&format!("{stakeholder}/notifications"), body).await?;
    assert_eq!(put.status, 200, "{put:?}");
    let client = world.database.connect().await?;
    client
        .batch_execute(
            "INSERT INTO integratedb.backfill
                 (stakeholder_id, schema_name, table_name, chunk_rows, rows_estimated, state)
             SELECT 1, 'public', 't' || n, 1, 1, CASE WHEN n = 2 THEN 'failed' ELSE 'done' END
             FROM generate_series(1, 5) n;
             INSERT INTO integratedb.dead_letter
                 (channel_id, epoch, lsn, index, keys, commit_micros, event, attempts, error)
             SELECT id, 1, '0/1', n, '', 0, '{}', 1, 'refused'
             FROM integratedb.channel, generate_series(1, 3) n WHERE name = 'one';
             INSERT INTO integratedb.sync_replay (integration_id, is_dry_run, step, state, finished_at)
             SELECT 1, true, 'compare', 'done', now() FROM generate_series(1, 3);
             INSERT INTO integratedb.sync_tenant (id, stakeholder_id) VALUES (-1, 1);
             INSERT INTO integratedb.sync_class (tenant_id, name, definition)
             SELECT -1, name, '{}' FROM unnest(ARRAY['a', 'b', 'c']) name",
        )
        .await?;

    let workspace = "/api/v1/workspaces/1/oauth/applications";
    world.made("/api/v1/workspaces", json!({"workspace": {"name": "Shop"}})).await?;
    for name in ["One", "Three", "Two"] {
        let application = json!({"application": {"name": name, "scopes": ["caches:read"],
            "redirect_uris": ["https://partner.example/back"]}});
        world.made("/api/v1/oauth/applications", application.clone()).await?;
        world.made(workspace, application).await?;
    }
    let allowed = "INSERT INTO integratedb.oauth_grant (application_id, user_id, workspace_id, scopes)
                   SELECT id, 1, 1, scopes FROM integratedb.oauth_application WHERE workspace_id IS NULL";
    client.execute(allowed, &[]).await?;

    let named = |all: &[Value], member: &str| -> Vec<String> {
        all.iter().map(|one| one[member].to_string().replace('"', "")).collect()
    };
    for (list, member, expected) in [
        ("/api/v1/users", "username", vec!["root", "ada", "ben", "cleo", "dora"]),
        ("/api/v1/users?username=CLEO", "username", vec!["cleo"]),
        ("/api/v1/users?username=nobody", "username", vec![]),
        ("/api/v1/stakeholders", "name", vec!["ada", "ben", "cleo", "dora"]),
        ("/api/v1/stakeholders?name=ben", "name", vec!["ben"]),
        ("/api/v1/sync/tenants", "id", vec!["-1", "16", "17", "18"]),
        ("/api/v1/stakeholders/1/sources", "class", vec!["a", "b", "c"]),
        ("/api/v1/sync/tenants/16/classes", "name", vec!["One", "Three", "Two"]),
        ("/api/v1/sync/tenants/16/integrations", "name", vec!["One", "Three", "Two"]),
        ("/api/v1/sync/tenants/16/integrations/1/replays", "id", vec!["3", "2", "1"]),
        ("/api/v1/stakeholders/1/channels", "name", vec!["one", "three", "two"]),
        ("/api/v1/stakeholders/1/channels?state=running", "name", vec!["one", "three", "two"]),
        ("/api/v1/stakeholders/1/channels?state=paused", "name", vec![]),
        ("/api/v1/stakeholders/1/channels/one/dead-letters", "id", vec!["1", "2", "3"]),
        ("/api/v1/stakeholders/1/backfills", "id", vec!["5", "4", "3", "2", "1"]),
        ("/api/v1/stakeholders/1/backfills?state=done", "id", vec!["5", "4", "3", "1"]),
        ("/api/v1/oauth/applications", "name", vec!["One", "Three", "Two"]),
        (workspace, "name", vec!["One", "Three", "Two"]),
        ("/api/v1/oauth/authorizations", "id", vec!["1", "2", "3"]),
    ] {
        assert_eq!(named(&walk(api, list).await?, member), expected, "{list}");
    }
    // As the guide has it.
    let users = api.get("/api/v1/users").await?;
    let members: Vec<&String> = users.body.as_object().context("an object")?.keys().collect();
    assert_eq!(members, ["data"]);
    assert_eq!(link(&users)?, None, "all of them");
    Ok(())
}

#[tokio::test]
async fn what_comes_and_goes_meanwhile_moves_nothing() -> Result<()> {
    let world = World::start().await?;
    let api = &world.sidecar;
    let make = async |name: &str| {
        world.made("/api/v1/stakeholders", json!({"stakeholder": {"name": name}})).await
    };
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        ids.push(make(name).await?);
    }
    let page = api.get("/api/v1/stakeholders?limit=2").await?;
    let next = link(&page)?.context("there is more")?;
    assert_eq!(next, format!("/api/v1/stakeholders?limit=2&after={}", ids[1]));
    // One that was seen goes, the one the next page begins after goes, and another one comes.
    for gone in [ids[0], ids[1]] {
        assert_eq!(api.delete(&format!("/api/v1/stakeholders/{gone}")).await?.status, 204);
    }
    make("f").await?;
    let page = api.get(&next).await?;
    let names: Vec<&Value> =
        page.body["data"].as_array().context("a list")?.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["c", "d"]);
    Ok(())
}

#[tokio::test]
async fn what_a_list_does_not_know_is_refused() -> Result<()> {
    let world = World::start().await?;
    world.tenant(16).await?;
    world.made("/api/v1/stakeholders", json!({"stakeholder": {"name": "ada"}})).await?;
    for list in [
        "/api/v1/users",
        "/api/v1/stakeholders",
        "/api/v1/stakeholders/1/backfills",
        "/api/v1/stakeholders/1/channels",
        "/api/v1/stakeholders/1/sources",
        "/api/v1/stakeholders/1/models",
        "/api/v1/sync/tenants",
        "/api/v1/sync/tenants/16/classes",
        "/api/v1/sync/tenants/16/integrations",
    ] {
        assert_eq!(world.sidecar.get(&format!("{list}?limit=1000")).await?.status, 200, "{list}");
        for (query, word) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=-1", "limit"),
            ("limit=x", "limit"),
            ("limit=", "limit"),
            ("offset=7", "offset"),
            ("limit=1&limit=2", "limit"),
        ] {
            let refused = world.sidecar.get(&format!("{list}?{query}")).await?;
            assert_eq!(refused.status, 400, "{list}?{query}: {refused:?}");
            assert!(refused.text.contains(word), "{list}?{query}: {refused:?}");
        }
    }
    for wrong in [
        "/api/v1/users?username=%00",
        "/api/v1/users?after=x",
        "/api/v1/stakeholders/1/channels?state=odd",
        "/api/v1/stakeholders/1/channels?after=%00",
        "/api/v1/stakeholders/1/backfills?state=odd",
        "/api/v1/stakeholders/1/backfills?after=1",
    ] {
        let refused = world.sidecar.get(wrong).await?;
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn queries_are_walked_by_their_ids() -> Result<()> {
    let cached = Cached::new().await?;
    let client = cached.connect("pass", "app").await?;
    for query in ["SELECT 1", "SELECT 1, 2", "SELECT 1, 2, 3", "SELECT 1 AS a", "SELECT 1 AS b"] {
        client.simple_query(query).await?;
    }
    let api = &cached.sidecar;
    let list = "/api/v1/caches/pass/queries";
    let seen = async || {
        let all = api.get(&format!("{list}?sort=id")).await?;
        let all = all.body["data"].as_array().context("a list")?.clone();
        Ok::<_, anyhow::Error>(all.iter().map(|query| query["id"].to_string()).collect::<Vec<_>>())
    };
    until("all were seen", async || Ok(seen().await?.len() >= 5)).await?;
    let mut ids = seen().await?;
    let walked = walk(api, &format!("{list}?sort=id")).await?;
    let walked: Vec<String> = walked.iter().map(|query| query["id"].to_string()).collect();
    assert_eq!(walked, ids);
    ids.sort();
    assert_eq!(walked, ids, "the least first");
    // By figures, which move, there are no pages.
    let page = api.get(&format!("{list}?sort=calls&limit=2")).await?;
    assert_eq!((page.body["data"].as_array().map(Vec::len), link(&page)?), (Some(2), None));
    for (wrong, status) in [("sort=calls&after=0", 422), ("after=0", 422), ("limit=0", 400)] {
        assert_eq!(api.get(&format!("{list}?{wrong}")).await?.status, status, "{wrong}");
    }
    Ok(())
}
