//! The JSON of a value's text is what `to_json` gives for the value, to the byte.
//!
//! `SEED=7 CASES=20000 cargo test -p integratedb-tests --test notify_json` looks at more random values.

mod samples;

use anyhow::{Context, Result, ensure};
use integratedb_events::json::{JsonType, Types};
use integratedb_wire::pgoutput::{Change, Message, Value};
use samples::{CHARACTERS, MADE_OF_OTHERS, RANDOM, SAMPLES, TYPES};
use support::{Cluster, Database};
use tokio_postgres::Client;

struct World {
    _cluster: Cluster,
    _database: Database,
    client: Client,
    types: Types,
}

impl World {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start_with(&[
            ("datestyle", "ISO, YMD"),
            ("intervalstyle", "postgres"),
            ("timezone", "UTC"),
            ("bytea_output", "hex"),
            ("extra_float_digits", "3"),
        ])
        .await?;
        let database = cluster.database("shop").await?;
        let client = database.connect().await?;
        Ok(Self { _cluster: cluster, _database: database, client, types: Types::new() })
    }

    /// Whether an extension could be created.
    async fn has_extension(&self, name: &str) -> Result<bool> {
        let sql = "SELECT count(*) FROM pg_available_extensions WHERE name = $1";
        let is_there = self.client.query_one(sql, &[&name]).await?.get::<_, i64>(0) > 0;
        if is_there {
            self.client.batch_execute(&format!("CREATE EXTENSION {name}")).await?;
        }
        Ok(is_there)
    }

    async fn number(&self, sql: &str) -> Result<u32> {
        Ok(self.client.query_one(sql, &[]).await.with_context(|| sql.to_owned())?.get(0))
    }

    /// How values of a type are written, which is learned if need be.
    async fn json_type(&mut self, oid: u32) -> Result<JsonType> {
        let missing = self.types.missing([oid].into_iter());
        if !missing.is_empty() {
            let rows = self.client.query(&Types::query(&missing), &[]).await?;
            let fields = |row: &tokio_postgres::Row| (0..4).map(|at| row.get(at)).collect();
            self.types.learn(&rows.iter().map(fields).collect::<Vec<_>>())?;
        }
        self.types.get(oid).with_context(|| format!("type {oid} is not known"))
    }

    /// Compares the values that a query gives, all of one type; gives how many.
    async fn compare(&mut self, query: &str) -> Result<usize> {
        // format() calls the output function, as pgoutput does; a cast to text may be another one.
        let sql = format!(
            "SELECT pg_typeof(v)::oid, format('%s', v), to_json(v)::text \
             FROM ({query}) AS q(v) WHERE to_json(v) IS NOT NULL"
        );
        let rows = self.client.query(&sql, &[]).await.with_context(|| sql.clone())?;
        let Some(first) = rows.first() else { return Ok(0) };
        let json_type = self.json_type(first.get(0)).await.with_context(|| query.to_owned())?;
        ensure!(!json_type.is_approximate(), "{query}: only approximate");
        for row in &rows {
            let (text, expected): (&str, &str) = (row.get(1), row.get(2));
            let written = written(&json_type, text).with_context(|| query.to_owned())?;
            ensure!(written == expected, "{query}\n {text}\n {written}, to_json:\n {expected}");
        }
        Ok(rows.len())
    }
}

fn written(json_type: &JsonType, text: &str) -> Result<String> {
    let mut out = Vec::new();
    json_type.write(text.as_bytes(), &mut out).with_context(|| text.to_owned())?;
    Ok(String::from_utf8(out)?)
}

/// A number from the environment.
fn setting(name: &str, default: u32) -> Result<u32> {
    std::env::var(name).map_or(Ok(default), |value| value.parse().context(value))
}

#[tokio::test]
async fn values_of_all_types_of_the_system() -> Result<()> {
    let mut world = World::new().await?;
    for (of, values) in SAMPLES {
        for value in *values {
            assert_eq!(world.compare(&format!("SELECT {value}::{of}")).await?, 1, "{value}");
        }
        let list: Vec<_> = values.iter().map(|value| format!("{value}::{of}")).collect();
        let list = list.join(", ");
        let sql = format!("SELECT typarray FROM pg_type WHERE oid = '{of}'::regtype");
        if world.number(&sql).await? != 0 {
            world.compare(&format!("SELECT ARRAY[{list}, NULL]")).await?;
            world.compare(&format!("SELECT ARRAY[ARRAY[{list}], ARRAY[{list}]]")).await?;
            world.compare(&format!("SELECT ARRAY[]::{of}[]")).await?;
        }
    }
    Ok(())
}

/// Those that have no input are not among the samples, but known all the same.
#[tokio::test]
async fn no_type_of_the_system_is_missing() -> Result<()> {
    let mut world = World::new().await?;
    let sql = "
        SELECT t.oid, format_type(t.oid, NULL)
        FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
        WHERE t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND e.typtype IS DISTINCT FROM 'c'
            AND e.typname IS DISTINCT FROM 'cstring'
        ORDER BY 1";
    let rows = world.client.query(sql, &[]).await?;
    let missing = world.types.missing(rows.iter().map(|row| row.get(0)));
    assert!(rows.len() > 100 && missing.is_empty(), "{missing:?} of {}", rows.len());

    let sampled: Vec<_> = SAMPLES.iter().map(|(of, _)| format!("'{of}'::regtype")).collect();
    let sql = format!(
        "SELECT coalesce(string_agg(format_type(oid, NULL), ' ' ORDER BY oid), '') FROM pg_type \
         WHERE oid < 10000 AND typtype IN ('b', 'r', 'm') AND typcategory NOT IN ('A', 'Z') \
             AND typname NOT IN ('gtsvector') AND oid NOT IN ({})",
        sampled.join(", ")
    );
    let unsampled: String = world.client.query_one(&sql, &[]).await?.get(0);
    assert_eq!(unsampled, "", "types without a sample");

    // The rows and domains of the system are learned like others.
    world.compare("SELECT t FROM pg_type t").await?;
    world.compare("SELECT array_agg(c) FROM pg_class c WHERE relkind = 'r'").await?;
    world.compare("SELECT r FROM information_schema.columns r LIMIT 50").await?;
    Ok(())
}

#[tokio::test]
async fn values_of_types_that_are_made_of_others() -> Result<()> {
    let mut world = World::new().await?;
    world.client.batch_execute(TYPES).await?;
    for value in MADE_OF_OTHERS {
        assert_eq!(world.compare(&format!("SELECT {value}")).await?, 1, "{value}");
    }
    for (extension, values) in samples::EXTENSIONS {
        if world.has_extension(extension).await? {
            for value in *values {
                assert_eq!(world.compare(&format!("SELECT {value}")).await?, 1, "{value}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_type_with_a_cast_to_json_is_a_string_and_says_so() -> Result<()> {
    let mut world = World::new().await?;
    world.client.batch_execute(TYPES).await?;
    for (value, expected) in [
        ("'red'::painted", r#""red""#),
        ("ARRAY['red'::painted]", r#"["red"]"#),
        ("'red'::painted_domain", r#""red""#),
        ("ROW(1, 'red')::painted_pair", r#"{"a":1,"b":"red"}"#),
    ] {
        let sql = format!(
            "SELECT pg_typeof(v)::oid, format('%s', v), to_json(v)::text FROM (SELECT {value}) q(v)"
        );
        let row = world.client.query_one(&sql, &[]).await?;
        let json_type = world.json_type(row.get(0)).await?;
        assert!(json_type.is_approximate(), "{value}");
        assert_eq!(written(&json_type, row.get(1))?, expected);
        assert_ne!(row.get::<_, &str>(2), expected, "to_json asks the cast");
    }
    Ok(())
}

#[tokio::test]
async fn random_values() -> Result<()> {
    let (seed, cases) = (setting("SEED", 1)?, setting("CASES", 400)?);
    let mut world = World::new().await?;
    world.client.batch_execute(TYPES).await?;
    world.client.batch_execute(CHARACTERS).await?;
    world.client.batch_execute(&format!("SELECT setseed({})", f64::from(seed) / 4e9 - 0.5)).await?;
    let mut total = 0;
    for value in RANDOM {
        let query = format!("SELECT {value} FROM generate_series(1, {cases}) n");
        total += world.compare(&query).await.with_context(|| format!("SEED={seed}"))?;
    }
    let expected = RANDOM.len() * usize::try_from(cases)?;
    assert!(total > expected / 2, "{total} of {expected} are not NULL");
    Ok(())
}

#[tokio::test]
async fn what_the_catalog_says_is_read_anew_after_a_change() -> Result<()> {
    let mut world = World::new().await?;
    world.client.batch_execute("CREATE TYPE pair AS (a int, b text)").await?;
    assert_eq!(world.compare("SELECT ROW(1, 'x')::pair").await?, 1);
    world.client.batch_execute("ALTER TYPE pair ADD ATTRIBUTE c date").await?;
    let value = "SELECT ROW(1, 'x', '2026-11-21')::pair";
    assert!(world.compare(value).await.is_err(), "it has an attribute more than was learned");
    world.types.forget();
    assert_eq!(world.compare(value).await?, 1);
    Ok(())
}

/// The values of a row as pgoutput sends them, put together as an object.
#[tokio::test]
async fn a_row_in_the_stream() -> Result<()> {
    let mut world = World::new().await?;
    world.client.batch_execute(TYPES).await?;
    world
        .client
        .batch_execute(
            "CREATE TABLE told (id int PRIMARY KEY, gone int, b bool, \"N n\" numeric, d date, t timestamptz, \
                 i interval, c \"char\", o inet, y bytea, f float8, s text, j json, jb jsonb, e mood, ts text[], \
                 p pair, ps pair[], m money, r tstzrange, dp pair_domain, x xml, di ints_domain);
             ALTER TABLE told DROP COLUMN gone;
             CREATE PUBLICATION told FOR TABLE told",
        )
        .await?;
    world
        .client
        .query("SELECT pg_create_logical_replication_slot('told', 'pgoutput')", &[])
        .await?;
    world
        .client
        .batch_execute(
            "INSERT INTO told VALUES (1, true, '0.10', '0044-03-15 BC', '2026-11-21 14:00+02', '1 mon -2 days 00:00:01',
                 'x', '10.1.2.3', '\\x00ff', 0.1, E'a\"\\\\\\n', '{\"a\":  [1]}', '{\"a\":  [1]}', 'so so',
                 ARRAY['NULL', NULL, '{\"}'], ROW(1, NULL), ARRAY[ROW(1, 'a,\"b\"')::pair, NULL], 12.5,
                 '[2026-11-21,)', ROW(2, 'x'), '<a b=\"c\"/>', '{{1,2},{3,4}}');
             INSERT INTO told VALUES (2)",
        )
        .await?;
    let changes = world
        .client
        .query(
            "SELECT data FROM pg_logical_slot_get_binary_changes('told', NULL, NULL, \
                 'proto_version', '1', 'publication_names', 'told')",
            &[],
        )
        .await?;
    let (mut columns, mut told) = (Vec::new(), Vec::new());
    for change in &changes {
        match Message::read(change.get(0))? {
            Message::Relation(relation) => {
                columns.extend(relation.columns.iter().map(|c| (c.name.to_vec(), c.type_oid)));
            }
            Message::Change(_, Change::Insert { new }) => {
                let mut object = Vec::new();
                for ((name, oid), value) in columns.iter().zip(new.iter()) {
                    object.push(if object.is_empty() { b'{' } else { b',' });
                    integratedb_events::json::write_string(name, &mut object);
                    object.push(b':');
                    match value {
                        Value::Text(text) => {
                            world.json_type(*oid).await?.write(text, &mut object)?
                        }
                        _ => object.extend_from_slice(b"null"),
                    }
                }
                told.push(String::from_utf8(object)? + "}");
            }
            _ => {}
        }
    }
    let rows = world.client.query("SELECT to_json(told)::text FROM told ORDER BY id", &[]).await?;
    let expected: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!((told.len(), &told), (2, &expected));
    Ok(())
}
