//! Class, verbs, effects and settings of a text, rule by rule.

use integratedb_template::{Class, Effects, Settings, Shape, Verbs};

fn shape(sql: &str) -> Shape {
    Shape::of(sql.as_bytes())
}

#[test]
fn classes() {
    for (class, texts) in [
        (
            Class::Dql,
            &[
                "select 1",
                "values (1)",
                "table t",
                "show a",
                "(select 1) union select 2",
                "select a for update",
                "with x as (select 1) select * from x",
                "with x as (select 1) select * from x for update",
                "with x as (select 1) select 1 for no key update",
                "copy t to stdout",
                "copy (select 1 from t) to stdout",
                "select a.into, 1 as into from t",
            ][..],
        ),
        (
            Class::Dml,
            &[
                "insert into t select 1",
                "update t set a = 1",
                "delete from t",
                "merge into t using s on true when matched then delete",
                "truncate t",
                "copy t (a) from stdin",
                "with x as (delete from t returning *) select * from x",
                "with x as not materialized (select 1), y as ( insert into t select 1 returning 1) table y",
                "with x as (select 1) insert into t select * from x",
                "(with x as (update t set a = 1) select 1)",
                "with x as (select 1) search depth first by a set b update t set a = 1",
                "copy (delete from t returning *) to stdout",
                "with x as (insert into t values (1)) select 1 from t",
            ][..],
        ),
        (
            Class::Ddl,
            &[
                "create table t (a int)",
                "alter table t add b int",
                "drop table t",
                "grant select on t to u",
                "comment on table t is 'x'",
                "select * into t from u",
                "with x as (select 1) select * into t from x",
                "refresh materialized view v",
                "create table t as select 1",
            ][..],
        ),
        (
            Class::Other,
            &[
                "",
                ";",
                "begin",
                "set a = 1",
                "explain select 1",
                "explain analyze insert into t values (1)",
                "call f()",
                "do $$x$$",
                "nonsense",
                "1",
                "fetch c",
            ][..],
        ),
    ] {
        for text in texts {
            assert_eq!(shape(text).class, class, "{text}");
        }
    }
}

#[test]
fn of_several_statements_the_strongest() {
    assert_eq!(shape("select 1; begin").class, Class::Other);
    assert_eq!(shape("begin; insert into t values (1); select 1").class, Class::Dml);
    assert_eq!(shape("insert into t values (1); drop table t; select 1").class, Class::Ddl);
}

#[test]
fn statements_and_verbs() {
    let shape_of = shape("; begin; SELECT ';'; (values (1)); frob x; 1;;");
    assert_eq!(shape_of.statements, 5);
    assert_eq!(
        shape_of.verbs.as_slice(),
        ["begin", "select", "values", Verbs::UNKNOWN, Verbs::UNKNOWN]
    );
    let many = shape(&"select 1;".repeat(100));
    assert_eq!((many.statements, many.verbs.as_slice().len()), (100, Verbs::MOST));
    assert_eq!(
        shape("create rule r as on insert to t do (delete from u; delete from v)").statements,
        1
    );
    assert_eq!(
        shape("create procedure p() begin atomic select case when a then 1 end; select 2; end; listen x").verbs.as_slice(),
        ["create", "listen"]
    );
    assert_eq!(shape("create function begin() returns int as 'x'; listen x").statements, 2);
}

#[test]
fn effects() {
    for (effects, texts) in [
        (
            Effects::empty(),
            &[
                "select 1",
                "set local a = 1",
                "set transaction read only",
                "set constraints all deferred",
                "select set_config('a', 'b', true)",
                "select pg_advisory_xact_lock(1)",
                "select pg_try_advisory_xact_lock_shared(1)",
                "create table temp (a int)",
                "insert into temp values (1)",
                "declare c cursor for select 1",
                "declare c cursor without hold for select 1",
                "select pg_temperature",
                "update t set a = 1",
                "alter role x set a = 1",
                "create function f() returns int set a = b as 'x'",
                "select 'listen', \"pg_advisory_lock\"",
                "select (reset) from t",
                "select set_config from t",
            ][..],
        ),
        (
            Effects::SETTINGS,
            &[
                "set a = 1",
                "SET SESSION a TO b",
                "reset a",
                "reset all",
                "set role x",
                "set session authorization x",
                "set time zone 'x'",
                "set names 'x'",
                "set session characteristics as transaction read only",
                "select set_config('a', 'b', false)",
                "select pg_catalog.set_config('a', 'b', $1)",
                "select \"set_config\"('a', 'b', not true)",
                "select set_config('a', 'b', is_local => true)",
                "select set_config('a', f(1, true), false)",
                "set a from current",
                r#"select U&"set\005fconfig"('a', 'b', false)"#,
            ][..],
        ),
        (
            Effects::ADVISORY_LOCK,
            &[
                "select pg_advisory_lock(1)",
                "select PG_TRY_ADVISORY_LOCK_SHARED (1, 2)",
                "select pg_catalog.\"pg_advisory_lock\"(1)",
            ][..],
        ),
        (
            Effects::TEMP,
            &[
                "create temp table t (a int)",
                "create local temporary view v as select 1",
                "create or replace temp view v as select 1",
                "select * into temp t from u",
                "select 1 into local temporary table t",
                "select * from pg_temp.t",
                "drop table \"pg_temp_3\".t",
                "explain analyze create temp table t as select 1",
                r#"select * from U&"pg\005ftemp".t"#,
            ][..],
        ),
        (
            Effects::TEMP.union(Effects::SETTINGS),
            &["set search_path = pg_temp, a", "select set_config('search_path', 'PG_TEMP', false)"]
                [..],
        ),
        (Effects::LISTEN, &["listen a", "listen \"A b\""][..]),
        (Effects::HOLD, &["declare c scroll cursor with hold for select 1"][..]),
        (Effects::PREPARE, &["prepare a as select 1", "prepare transaction as select 1"][..]),
        (Effects::DEALLOCATE, &["deallocate all"][..]),
        (Effects::DISCARD, &["discard all"][..]),
        (Effects::LOAD, &["load 'x'"][..]),
        (
            Effects::TRANSACTION,
            &[
                "begin",
                "start transaction",
                "commit",
                "end",
                "rollback to a",
                "abort",
                "savepoint a",
                "release a",
                "prepare transaction 'a'",
                "commit prepared 'a'",
            ][..],
        ),
        (Effects::LISTEN.union(Effects::TRANSACTION), &["begin; listen a; commit"][..]),
        (
            Effects::SETTINGS.union(Effects::ADVISORY_LOCK).union(Effects::TEMP),
            &["select U&\"!0061\" uescape '!' (1)"][..],
        ),
    ] {
        for text in texts {
            assert_eq!(shape(text).effects, effects, "{text}");
        }
    }
}

#[test]
fn settings() {
    let settings = |sql: &str| shape(sql).settings;
    let named = |names: &[&str]| Settings {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        ..Settings::default()
    };
    for (sql, names) in [
        (
            "SET Search_Path = a, b; set SESSION \"TimeZone\" to x; reset search_path",
            &["search_path", "timezone"][..],
        ),
        ("set app.user = 'x'; set \"App\".\"a\"\"b\" = y", &["app.user", "app.a\"b"][..]),
        (
            "set time zone 'x'; set names 'y'; set role a; set session authorization b",
            &["timezone", "client_encoding", "role", "session_authorization"][..],
        ),
        (
            "set schema 'x'; set xml option content; reset session authorization; reset time zone",
            &["search_path", "xmloption", "timezone"][..],
        ),
        ("set session authorization default; unlisten *", &[][..]),
        (
            "set session characteristics as transaction read only",
            &[
                "default_transaction_isolation",
                "default_transaction_read_only",
                "default_transaction_deferrable",
            ][..],
        ),
        (
            "select set_config('App.Id', $1, false), set_config('b'::text, f(1), $2), set_config($$c$$, '', false)",
            &["app.id", "b", "c"][..],
        ),
        ("set role = 'x'; set session.a = 1; set local = 1", &["role", "session.a", "local"][..]),
        (
            "select 1; update t set a = 1; alter role x set b = 1; set transaction read only",
            &[][..],
        ),
    ] {
        assert_eq!(settings(sql), named(names), "{sql}");
    }
    let local = settings("set local a = 1; select set_config('b', 'c', true); set local role x");
    assert_eq!((local.local, local.names), (vec!["a".into(), "b".into(), "role".into()], vec![]));
    assert_eq!(settings("reset all"), Settings { reset_all: true, ..Settings::default() });
    for sql in [
        "select set_config($1, 'x', false)",
        "select set_config(a, 'x', true)",
        "select set_config('a' || b, 'x', false)",
        "select set_config(",
        "select set_config(E'\\x61', 'x', false)",
        "select set_config(setting_name => 'a', new_value => 'b', is_local => false)",
        "set 1 = 2",
        "reset",
        "select set_config('a'::name, 'x', false)",
        "select set_config('a'::name::text, 'x', false)",
    ] {
        assert!(settings(sql).unknown, "{sql}");
    }
    let many: String = (0..100).map(|number| format!("set a{number} = 1;")).collect();
    let many = settings(&many);
    assert_eq!((many.names.len(), many.unknown), (Settings::MOST, true));
}
