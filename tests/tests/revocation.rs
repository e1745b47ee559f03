//! What is taken away counts for requests that are under way just then, too.

use anyhow::{Context, Result};
use reqwest::StatusCode;
use support::{Partnered, until};

const PASSWORD: &str = Partnered::PASSWORD;

/// Waits until so many connections wait for a lock that another has.
async fn waiting(world: &Partnered, count: i64) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("somebody waits for a lock", || async { Ok(world.count(sql, &[]).await? >= count) }).await
}

#[tokio::test]
async fn tokens_that_are_revoked_while_they_are_refreshed_have_no_successor() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let code = partner.code(&world.api, "root", PASSWORD, world.workspace).await?;
    let first = partner.trade(&world.api, &code).await?;
    let refresh_token = first.body["refresh_token"].as_str().context("no refresh_token")?;

    let mut holder = world.database.connect().await?;
    let held = holder.transaction().await?;
    held.execute("SELECT FROM integratedb.oauth_token FOR UPDATE", &[]).await?;
    let revoke = async {
        waiting(&world, 1).await?;
        world.api.delete("/api/v1/users/1/tokens").await
    };
    let let_go = async {
        waiting(&world, 2).await?;
        Ok(held.commit().await?)
    };
    let (renewed, revoked, ()) =
        tokio::try_join!(partner.refresh(&world.api, refresh_token), revoke, let_go)?;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text);
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text);
    let token = renewed.body["access_token"].as_str().context("no access_token")?;
    assert_eq!(world.caches(token).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(world.count("SELECT count(*) FROM integratedb.oauth_token", &[]).await?, 0);
    Ok(())
}
