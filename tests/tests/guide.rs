//! Every JSON and SQL example of the usage guide, request and answer.

use anyhow::Result;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{Cluster, Database, Sidecar};

const TABLES: &str = "
    CREATE TABLE public.orders (id bigint PRIMARY KEY, product_id bigint NOT NULL, quantity int);
    CREATE TABLE public.customers (id bigint PRIMARY KEY, user_id bigint, name text);
    CREATE TABLE public.foos (
        id bigint PRIMARY KEY, uid uuid, info varchar(300), name varchar(255),
        inserted_at timestamp NOT NULL DEFAULT now());
    INSERT INTO public.orders VALUES (1, 7, 2);
    INSERT INTO public.customers VALUES (1, 11, 'Ada');";

struct World {
    _cluster: Cluster,
    database: Database,
    api: Sidecar,
}

/// The guide's database, a sidecar, and a first user whose token every request carries.
async fn world() -> Result<World> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    database.connect().await?.batch_execute(TABLES).await?;
    let api = Sidecar::start_as_root(&database.url()).await?;
    Ok(World { _cluster: cluster, database, api })
}

impl World {
    async fn stakeholder(&self, name: &str) -> Result<Value> {
        let reply =
            self.api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": name}})).await?;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        Ok(reply.body["data"].clone())
    }

    async fn claim(&self, matches: Value) -> Result<support::Reply> {
        self.api.put("/api/v1/stakeholders/1/claims", json!({"data": {"match": matches}})).await
    }

    async fn claim_ok(&self, matches: Value) -> Result<()> {
        let reply = self.claim(matches).await?;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        Ok(())
    }

    async fn migrate(&self, sql: &str) -> Result<(), String> {
        let client = self.database.connect().await.map_err(|e| e.to_string())?;
        let sql = format!("BEGIN; {sql}; SELECT integratedb_validate_migration(); COMMIT;");
        client
            .batch_execute(&sql)
            .await
            .map_err(|e| e.as_db_error().map_or_else(|| e.to_string(), |e| e.message().to_owned()))
    }
}

#[tokio::test]
async fn the_root_user_is_created_without_a_login_and_locks_the_door_behind() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let mut api = Sidecar::start(&database.url()).await?;
    let body = json!({"user": {"username": "example", "password": "a long password"}});

    let reply = api.post("/api/v1/users", body.clone()).await?;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let data = reply.body["data"].as_object().expect("an object").clone();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["id", "refreshToken", "token"]);
    assert_eq!(data["id"], 1);
    assert_eq!(reply.headers["location"], "/api/v1/users/1");

    let locked = api.get("/api/v1/users").await?;
    assert_eq!(locked.status, StatusCode::UNAUTHORIZED);
    assert_eq!(locked.body, json!({"errors": {"detail": "Unauthorized"}}));
    assert_eq!(api.post("/api/v1/users", body).await?.status, StatusCode::UNAUTHORIZED);

    api.set_token(data["token"].as_str());
    let list = api.get("/api/v1/users").await?;
    assert_eq!(list.body, json!({"data": [{"id": 1, "username": "example", "operator": true}]}));

    let login = json!({"data": {"username": "example", "password": "a long password"}});
    let login = api.post("/api/v1/auth/login", login).await?;
    assert_eq!((login.status, &login.body["data"]["id"]), (StatusCode::OK, &json!(1)));
    let renew = json!({"data": login.body["data"]["refreshToken"]});
    let renewed = api.post("/api/v1/auth/renew", renew.clone()).await?;
    assert_eq!(renewed.status, StatusCode::OK);
    let keys: Vec<_> = renewed.body["data"].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["id", "refreshToken", "token"]);
    // A refresh token works once.
    assert_eq!(api.post("/api/v1/auth/renew", renew).await?.status, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn users_are_a_crud_resource() -> Result<()> {
    let World { api, .. } = &world().await?;
    let ann = json!({"user": {"username": " Ann ", "password": "ten letters"}});
    let created = api.post("/api/v1/users", ann).await?;
    assert_eq!(created.status, StatusCode::CREATED);
    let shown = api.get("/api/v1/users/2").await?;
    assert_eq!(shown.body, json!({"data": {"id": 2, "username": "ann", "operator": true}}));
    let changed = api.put("/api/v1/users/2", json!({"user": {"username": "anna"}})).await?;
    assert_eq!(
        (changed.status, changed.body),
        (StatusCode::OK, json!({"data": {"id": 2, "username": "anna", "operator": true}}))
    );
    assert_eq!(api.delete("/api/v1/users/2").await?.status, StatusCode::NO_CONTENT);
    let gone = api.get("/api/v1/users/2").await?;
    assert_eq!(
        (gone.status, gone.body),
        (StatusCode::NOT_FOUND, json!({"errors": {"detail": "Not Found"}}))
    );
    Ok(())
}

#[tokio::test]
async fn a_stakeholder_gets_a_role_with_a_schema_of_its_own() -> Result<()> {
    let world = world().await?;
    let data = world.stakeholder("example").await?;
    assert_eq!((&data["id"], &data["name"]), (&json!(1), &json!("example")));
    assert_eq!(data["credentials"]["username"], "example");
    let password = data["credentials"]["password"].as_str().expect("a password");
    assert!(password.len() >= 32, "at least 128 bits in hex");

    let client = world.database.connect_as("example", password).await?;
    client
        .batch_execute(
            "CREATE TABLE example.notes (t text); INSERT INTO example.notes VALUES ('x')",
        )
        .await?;
    assert!(client.query("SELECT * FROM public.orders", &[]).await.is_err());

    let list = world.api.get("/api/v1/stakeholders").await?;
    assert_eq!(list.body, json!({"data": [{"id": 1, "name": "example"}]}));
    let one = world.api.get("/api/v1/stakeholders/1").await?;
    assert_eq!(one.body, json!({"data": {"id": 1, "name": "example"}}));
    Ok(())
}

#[tokio::test]
async fn claiming_grants_exactly_the_claimed_columns() -> Result<()> {
    let world = world().await?;
    let data = world.stakeholder("example").await?;
    let empty = world.api.get("/api/v1/stakeholders/1/claims").await?;
    assert_eq!(empty.body, json!({"data": {"type": "CLAIMS", "match": []}}));

    let spec = json!([
        {"path": "public.orders", "fields": ["*"]},
        {"path": "public.customers", "fields": ["id", "user_id"]},
    ]);
    let reply = world.claim(spec.clone()).await?;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let expected = json!({"data": {"type": "CLAIMS", "match": spec}});
    assert_eq!(reply.body, expected);
    assert_eq!(world.api.get("/api/v1/stakeholders/1/claims").await?.body, expected);

    let password = data["credentials"]["password"].as_str().expect("a password");
    let client = world.database.connect_as("example", password).await?;
    assert_eq!(client.query("SELECT * FROM public.orders", &[]).await?.len(), 1);
    assert_eq!(client.query("SELECT id, user_id FROM public.customers", &[]).await?.len(), 1);
    assert!(client.query("SELECT name FROM public.customers", &[]).await.is_err());
    assert!(client.execute("UPDATE public.orders SET quantity = 0", &[]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_whole_schema_goes_only_with_all_fields() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    world.claim_ok(json!([{"path": "public.*", "fields": ["*"]}])).await?;
    let reply = world.claim(json!([{"path": "public.*", "fields": ["id", "inserted_at"]}])).await?;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.body["errors"]["detail"][0][1], "#/match/0/fields");
    Ok(())
}

#[tokio::test]
async fn fields_are_names_or_objects() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    world.claim_ok(json!([{"path": "public.foos", "fields": ["id", "inserted_at"]}])).await?;
    world
        .claim_ok(json!([{"path": "public.foos", "fields": [
            {"name": "id"},
            {"name": "uid", "type": "uuid"},
            {"name": "info", "min_length": 255},
            {"name": "inserted_at", "is_nullable": "false"},
            {"name": "extra_info", "optional": true},
        ]}]))
        .await?;
    world
        .claim_ok(json!([{"path": "public.foos", "fields": [
            {"name": "id", "type": "bigint", "min_length": 64, "is_nullable": false}]}]))
        .await?;
    let terse = world
        .claim(json!({"alternatives": [
        {"path": "public.foos", "fields": [{"name": "id"}, {"alternatives": ["name"]}]}]}))
        .await?;
    assert_eq!(
        terse.body["data"]["match"],
        json!([{"path": "public.foos", "fields": ["id", "name"]}])
    );
    Ok(())
}

#[tokio::test]
async fn a_column_may_not_become_shorter_than_its_min_length() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    world
        .claim_ok(json!([{"path": "public.foos", "fields": [{"name": "info", "min_length": 40}]}]))
        .await?;
    world.migrate("ALTER TABLE foos ALTER info TYPE varchar(40)").await.expect("still 40");
    let refused =
        world.migrate("ALTER TABLE foos ALTER info TYPE varchar(30)").await.expect_err("30");
    assert!(refused.contains("min_length 40, found 30"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_specified_tracks_the_database_and_prevents_regressions() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    world.claim_ok(json!([{"path": "public.foos", "fields": ["name"]}])).await?;
    // The column grows and becomes NOT NULL: the claim follows …
    world
        .migrate("ALTER TABLE foos ALTER name TYPE varchar(400), ALTER name SET NOT NULL")
        .await
        .expect("no regression");
    // … and then holds the new ground.
    for regression in
        ["ALTER name TYPE varchar(300)", "ALTER name DROP NOT NULL", "ALTER name TYPE text"]
    {
        let refused = world.migrate(&format!("ALTER TABLE foos {regression}")).await;
        assert!(refused.expect_err(regression).starts_with("IntegrateDB.InvalidMigration"));
    }
    Ok(())
}

#[tokio::test]
async fn validation_errors_have_the_guides_shapes() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    let path = "/api/v1/stakeholders/1/claims";
    let schema = world.api.put(path, json!({"data": {"name": "x"}})).await?;
    assert_eq!(schema.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        schema.body,
        json!({"errors": {"detail": [
            ["Schema does not allow additional properties.", "#/name"],
            ["Required property match was not present.", "#"],
        ]}})
    );
    let database = world
        .claim(json!([{"path": "public.foos", "fields": [{"name": "id", "type": "int"}]}]))
        .await?;
    assert_eq!(database.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        database.body["errors"]["claims"],
        json!([{"alternatives": [{"columns": [{"alternatives": [{"type": [
            "path: `public.foos`, field: `id`: specified value `int` does not match existing \
             column value `bigint`."
        ]}]}]}]}])
    );
    assert_eq!(database.body["errors"]["unmet"][0]["pointer"], "#/match/0/fields/0");
    let missing = world.claim(json!([{"path": "public.foos", "fields": ["id", "nope"]}])).await?;
    assert_eq!(
        missing.body["errors"]["claims"],
        json!([{"alternatives": [{"columns": [{}, {"alternatives": [{"name": [
            "path: `public.foos`, field: `nope`: specified field `nope` does not exist in the database."
        ]}]}]}]}])
    );
    // Nothing of a refused spec is stored.
    let stored = world.api.get(path).await?;
    assert_eq!(stored.body["data"]["match"], json!([]));
    Ok(())
}

#[tokio::test]
async fn the_migration_of_the_guide_is_refused_and_its_rollback_syncs() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    world.claim_ok(json!([{"path": "public.foos", "fields": ["name"]}])).await?;

    let (_, told, succeeded) = world.database.psql(
        "BEGIN; ALTER TABLE foos DROP COLUMN name; SELECT integratedb_validate_migration(); COMMIT;",
    )?;
    assert!(!succeeded);
    for part in [
        "NOTICE:  IntegrateDB unmet claim",
        "ERROR:  IntegrateDB.InvalidMigration",
        "example needs public.foos.name: expected character varying, found missing",
        "HINT:  Please resolve the unmet claims above.",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    // Without validation it commits, and can be looked at.
    let (unmet, _, _) = world.database.psql(
        "ALTER TABLE foos DROP COLUMN name; SELECT stakeholder, path, field FROM integratedb_unmet_claims()",
    )?;
    assert!(unmet.contains("example|public.foos|name"), "{unmet}");
    let (_, _, succeeded) = world.database.psql(
        "BEGIN; ALTER TABLE foos ADD COLUMN name varchar(255); SELECT integratedb_sync(); COMMIT;",
    )?;
    assert!(succeeded);
    let (unmet, _, _) = world.database.psql("SELECT count(*) FROM integratedb_unmet_claims()")?;
    assert_eq!(unmet.trim(), "0");
    let (_, told, succeeded) = world.database.psql("SELECT integratedb_validate_migration()")?;
    assert!(succeeded && told.contains("NOTICE:  IntegrateDB validated migration OK."), "{told}");
    Ok(())
}

#[tokio::test]
async fn alternatives_let_the_schema_evolve() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    let before = json!({"path": "public.orders", "fields": ["product_id", "quantity"]});
    world.claim_ok(before).await?;
    let migration = "ALTER TABLE orders RENAME TO legacy_orders; \
        CREATE TABLE orders (id bigint, product_uuid uuid, quantity int)";
    world.migrate(migration).await.expect_err("product_id is gone");
    world
        .claim_ok(json!({"alternatives": [
            {"path": "public.orders", "fields": ["product_uuid", "quantity"]},
            {"path": "public.legacy_orders", "fields": [
                {"alternatives": ["product_id", "product_uuid"]}, "quantity"]},
            {"path": "public.orders", "fields": ["product_id", "quantity"]},
        ]}))
        .await?;
    world.migrate(migration).await.expect("an alternative is met");
    // All alternatives that exist are granted.
    let client = world.database.connect().await?;
    let row = client
        .query_one(
            "SELECT has_column_privilege('example', 'public.orders', 'product_uuid', 'SELECT') \
                AND has_column_privilege('example', 'public.legacy_orders', 'product_id', 'SELECT') \
                AND NOT has_column_privilege('example', 'public.orders', 'id', 'SELECT')",
            &[],
        )
        .await?;
    assert!(row.get::<_, bool>(0));
    // The guide's document to the letter, which the database now provides.
    let literal = json!({"alternatives": [
        {"path": "public.orders", "fields": ["product_uuid", "quantity"]},
        {"path": "public.legacy_orders", "fields": [
            {"alternatives": ["product_id", "product_uuid"]}, "quantity"]},
    ]});
    let reply = world.claim(literal.clone()).await?;
    assert_eq!((reply.status, &reply.body["data"]["match"]), (StatusCode::OK, &json!([literal])));
    Ok(())
}

#[tokio::test]
async fn optionals_let_tables_and_columns_go() -> Result<()> {
    let world = world().await?;
    world.stakeholder("example").await?;
    world.claim_ok(json!({"path": "public.foos", "fields": ["*"]})).await?;
    world.migrate("DROP TABLE foos").await.expect_err("claimed");
    world.claim_ok(json!({"path": "public.foos", "fields": ["*"], "optional": true})).await?;
    world.migrate("DROP TABLE foos").await.expect("optional");

    world.claim_ok(json!({"path": "public.customers", "fields": ["user_id"]})).await?;
    world.migrate("ALTER TABLE customers DROP user_id").await.expect_err("claimed");
    world
        .claim_ok(json!({"path": "public.customers", "fields": [
            {"name": "user_id", "optional": true}]}))
        .await?;
    world.migrate("ALTER TABLE customers DROP user_id").await.expect("optional");
    Ok(())
}
