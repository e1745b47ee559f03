//! A member of one workspace can neither see nor touch another's.

use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::world::{Caller, HIDDEN, Operation, Whose, World};

/// Has something of every kind in workspace 1, all of whose names say that they are hidden.
async fn furnish(world: &World) -> Result<()> {
    let one = world.one.id;
    let user = world.user(false).await?;
    world.member(one, user, "owner").await?;
    world.registered(None, Some(one)).await?;
    world.application(user, one, &["caches:read"]).await?;
    world
        .client
        .batch_execute(&format!(
            "UPDATE integratedb.users SET username = '{HIDDEN}-' || username WHERE id = {user};
             UPDATE integratedb.oauth_application SET name = '{HIDDEN}-' || name, client_id = '{HIDDEN}-' || client_id
                 WHERE workspace_id = {one} OR user_id = {user};
             INSERT INTO integratedb.audit_event (workspace_id, action, subject)
                 VALUES ({one}, 'cache.create', '/api/v1/caches/{HIDDEN}')",
        ))
        .await?;
    Ok(())
}

/// All that is stored of workspace 1.
async fn stored(world: &World) -> Result<String> {
    let mut all = String::new();
    for (table, column) in [
        ("workspace", "id"),
        ("workspace_member", "workspace_id"),
        ("cache", "workspace_id"),
        ("oauth_application", "workspace_id"),
        ("oauth_grant", "workspace_id"),
        ("audit_event", "workspace_id"),
    ] {
        let sql = format!(
            "SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM integratedb.{table} t
             WHERE {column} = $1"
        );
        all.push_str(world.client.query_one(&sql, &[&world.one.id]).await?.get(0));
    }
    Ok(all)
}

/// How many changes of workspace 1 the audit log tells of.
async fn told(world: &World) -> Result<i64> {
    let sql = "SELECT count(*) FROM integratedb.audit_event WHERE workspace_id = $1";
    Ok(world.client.query_one(sql, &[&world.one.id]).await?.get(0))
}

/// Every operation that a member of workspace 2 may read with, called about workspace 2.
async fn read_all(world: &World, caller: &Caller) -> Result<Vec<(String, String)>> {
    let mut answers = Vec::new();
    for operation in world.operations().await? {
        // Figures of the whole process are for whoever runs it, and name no more than caches' ids.
        if operation.is("GET") && operation.path() != "/metrics" {
            let whose = Whose::Callers;
            let answer =
                world.call_about(&world.two, &world.two, &operation, caller, whose).await?;
            answers.push((operation.to_string(), answer.body));
        }
    }
    Ok(answers)
}

#[tokio::test]
async fn what_is_read_of_one_workspace_tells_nothing_of_another() -> Result<()> {
    let world = World::start().await?;
    furnish(&world).await?;
    for title in ["stranger", "app elsewhere"] {
        let caller = match title {
            // Of workspace 2 alone, so that nothing of workspace 1 is the user's own.
            "app elsewhere" => {
                let user = world.user(false).await?;
                world.member(world.two.id, user, "owner").await?;
                world.application(user, world.two.id, &["caches:read", "cacheRules:read"]).await?
            }
            _ => world.caller(title).await?,
        };
        for (operation, body) in read_all(&world, &caller).await? {
            ensure!(!body.contains(HIDDEN), "{operation} tells {title}: {body}");
        }
        let list = Operation::new(Method::GET, "/api/v1/caches");
        for query in [format!("?workspace={}", world.one.id), format!("?name={HIDDEN}")] {
            let answer =
                world.send(&list, &format!("/api/v1/caches{query}"), None, &caller).await?;
            ensure!(!answer.body.contains(HIDDEN), "{query} tells {title}: {}", answer.body);
        }
    }
    // Whoever may see it does, so that the above is not for want of anything to see.
    let owner = world.caller("owner").await?;
    let list = Operation::new(Method::GET, "/api/v1/caches");
    let body = world.call(&list, &owner, Whose::Callers).await?.body;
    ensure!(body.contains(HIDDEN), "the owner does not see the cache: {body}");
    Ok(())
}

/// Ids of workspace 1 under the path of workspace 2, by its owner, lead nowhere.
#[tokio::test]
async fn another_workspaces_ids_lead_nowhere() -> Result<()> {
    let world = World::start().await?;
    furnish(&world).await?;
    let caller = world.caller("stranger").await?;
    for operation in world.operations().await? {
        let parameters = operation.path().matches('{').count();
        if !operation.path().contains("{workspace}") || parameters < 2 {
            continue;
        }
        // What there is to be called about is made on the way, so the two are compared around the call alone.
        let user = world.user(false).await?;
        world.member(world.one.id, user, "viewer").await?;
        let application = world.registered(None, Some(world.one.id)).await?;
        let path = operation
            .path()
            .replace("{workspace}", &world.two.id.to_string())
            .replace("{user}", &user.to_string())
            .replace("{application}", &application.to_string());
        let before = stored(&world).await?;
        let has_body = operation.is("PUT") || operation.is("POST");
        let body = has_body.then(|| Value::Object(serde_json::Map::new()));
        let answer = world.send(&operation, &path, body, &caller).await?;
        // A body may be looked at before what it is for.
        let is_refused = matches!(answer.status.as_u16(), 404 | 422);
        ensure!(is_refused, "{operation}: {} {}", answer.status, answer.body);
        ensure!(before == stored(&world).await?, "{operation} has changed workspace 1");
    }
    Ok(())
}

/// Whoever is refused has changed nothing of the workspace, whatever was called.
#[tokio::test]
async fn who_is_refused_changes_nothing() -> Result<()> {
    let world = World::start().await?;
    furnish(&world).await?;
    let before = told(&world).await?;
    let callers = ["nobody", "operator", "stranger", "app elsewhere"];
    for operation in world.operations().await? {
        let is_about_one = ["/api/v1/workspaces/{", "/api/v1/caches"]
            .iter()
            .any(|begin| operation.path().starts_with(begin));
        if operation.is("GET") || !is_about_one {
            continue;
        }
        for title in callers {
            let caller = world.caller(title).await?;
            let answer = world.call(&operation, &caller, Whose::Anybodys).await?;
            let expected = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
            ensure!(expected.contains(&answer.status), "{operation} by {title}: {}", answer.status);
        }
    }
    assert_eq!(told(&world).await?, before, "somebody has changed something");
    Ok(())
}

/// What a cache belongs to is nothing that anybody sets, though it be an owner of both.
#[tokio::test]
async fn a_cache_stays_in_its_workspace() -> Result<()> {
    let world = World::start().await?;
    let user = world.user(false).await?;
    world.member(world.one.id, user, "owner").await?;
    world.member(world.two.id, user, "owner").await?;
    let caller = world.login(user).await?;
    let change = Operation::new(Method::PUT, "/api/v1/caches/{id}");
    let path = format!("/api/v1/caches/{}", world.one.cache);
    for name in ["workspace", "workspace_id", "id", "version", "credentials"] {
        let body = serde_json::json!({"cache": {"name": "new", (name): world.two.id}});
        let before = stored(&world).await?;
        let answer = world.send(&change, &path, Some(body), &caller).await?;
        ensure!(answer.status.is_client_error(), "{name}: {} {}", answer.status, answer.body);
        ensure!(before == stored(&world).await?, "{name} was set");
    }
    Ok(())
}
