//! Who may do what: a running sidecar answers every operation of its API to everybody as `docs/api/authorization.md` says,
//! and no workspace sees another.

mod isolation;
mod page;
mod world;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use page::Page;
use reqwest::{Method, StatusCode};
use world::{Operation, Whose, World};

/// What an answer has to be.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Anything but a refusal; `true`: 404 may be one, so it must not be that either.
    Allowed(bool),
    OneOf(&'static [u16]),
}

impl Expected {
    fn is(self, status: StatusCode) -> bool {
        let status = status.as_u16();
        match self {
            Self::OneOf(expected) => expected.contains(&status),
            Self::Allowed(hides) => {
                let is_refusal = matches!(status, 401 | 403) || hides && status == 404;
                !is_refusal && !matches!(status, 405 | 429 | 500..=502)
            }
        }
    }
}

/// The calls that a cell of the page stands for: about whose things, and what they are answered with.
fn calls(cell: &str, hides: bool) -> Result<Vec<(Whose, Expected)>> {
    Ok(match cell {
        "yes" => vec![(Whose::Anybodys, Expected::Allowed(hides))],
        "own" => vec![
            (Whose::Anybodys, Expected::OneOf(&[403, 404])),
            (Whose::Callers, Expected::Allowed(true)),
        ],
        // 403 where sync is not set up; 422 where the body is judged.
        "other" => vec![(Whose::Anybodys, Expected::OneOf(&[401, 403, 422]))],
        "401" => vec![(Whose::Anybodys, Expected::OneOf(&[401]))],
        "403" => vec![(Whose::Anybodys, Expected::OneOf(&[403]))],
        "404" => vec![(Whose::Anybodys, Expected::OneOf(&[404]))],
        other => anyhow::bail!("the page has a cell {other:?}"),
    })
}

#[tokio::test]
async fn everybody_is_answered_as_the_page_says() -> Result<()> {
    let world = World::start().await?;
    let page = Page::read()?;
    let described: BTreeSet<_> = world.operations().await?.into_iter().collect();
    let rows: BTreeSet<_> = page.rows.keys().cloned().collect();
    let missing: Vec<_> = described.difference(&rows).collect();
    ensure!(missing.is_empty(), "the page does not say who may {missing:?}");
    let gone: Vec<_> = rows.difference(&described).collect();
    ensure!(gone.is_empty(), "the page speaks of what is not there: {gone:?}");
    let mut wrong = Vec::new();
    for (operation, cells) in &page.rows {
        let hides = cells.iter().any(|cell| cell == "404");
        let mut cells: Vec<_> = page.columns.iter().zip(cells).collect();
        // Whoever is refused comes first, and finds all as it was.
        cells.sort_by_key(|(_, cell)| cell.as_str() == "yes");
        for (title, cell) in cells {
            for (whose, expected) in calls(cell, hides)? {
                let caller = world.caller(title).await?;
                let status = world.call(operation, &caller, whose).await?.status;
                if !expected.is(status) {
                    wrong.push(format!(
                        "{operation} by {title} ({whose:?}): {cell} became {status}"
                    ));
                }
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} answers differ from the page:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[tokio::test]
async fn who_lacks_a_scope_is_told_which() -> Result<()> {
    let world = World::start().await?;
    let caller = world.caller("app `cacheRules:read`").await?;
    let operation = Operation::new(Method::GET, "/api/v1/caches");
    let answer = world.call(&operation, &caller, Whose::Anybodys).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let challenge = answer.challenge.context("no WWW-Authenticate")?;
    assert_eq!(challenge, "Bearer error=\"insufficient_scope\", scope=\"caches:read\"");
    Ok(())
}

/// The rights of an application end with those of its user.
#[tokio::test]
async fn an_application_loses_what_its_user_loses() -> Result<()> {
    let world = World::start().await?;
    let caller = world.caller("app `caches:read`").await?;
    let operation = Operation::new(Method::GET, "/api/v1/caches/{id}");
    assert_eq!(world.call(&operation, &caller, Whose::Anybodys).await?.status, StatusCode::OK);
    let user = caller.user.context("it acts for a user")?;
    let sql = "DELETE FROM integratedb.workspace_member WHERE user_id = $1";
    world.client.execute(sql, &[&user]).await?;
    assert_eq!(
        world.call(&operation, &caller, Whose::Anybodys).await?.status,
        StatusCode::NOT_FOUND
    );
    let sql = "DELETE FROM integratedb.oauth_grant WHERE user_id = $1";
    world.client.execute(sql, &[&user]).await?;
    assert_eq!(
        world.call(&operation, &caller, Whose::Anybodys).await?.status,
        StatusCode::UNAUTHORIZED
    );
    Ok(())
}
