//! Tables and classes of a text that is parsed, rule by rule.

use integratedb_template::{Access, Class, analyze};

/// The tables as `r:schema.name w:name`.
fn tables(sql: &str) -> String {
    let analysis = analyze(sql);
    assert!(analysis.parsed, "{sql}");
    let tables = analysis.tables.into_iter().map(|table| {
        let access = if table.access == Access::Read { 'r' } else { 'w' };
        let schema = table.schema.map(|schema| schema + ".").unwrap_or_default();
        format!("{access}:{schema}{}", table.name)
    });
    tables.collect::<Vec<_>>().join(" ")
}

fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(tables(sql), *expected, "{sql}");
    }
}

#[test]
fn tables_that_are_read() {
    check(&[
        ("select 1", ""),
        ("select * from B, a join s.c on true left join b on true", "r:a r:b r:s.c"),
        (
            "select (select max(x) from a) from b where exists (select from c) and d in (select d from e)",
            "r:a r:b r:c r:e",
        ),
        ("select * from a, lateral (select * from b where b.x = a.x) l", "r:a r:b"),
        ("select * from a union all (select * from b except select * from c)", "r:a r:b r:c"),
        ("select * from generate_series(1, 2) g, unnest(array[1]) u, a", "r:a"),
        ("select * from \"A\", \"a\", A, \"x\"\"y\"", "r:A r:a r:x\"y"),
        ("select * from db.s.t", "r:s.t"),
        ("table a", "r:a"),
        ("TABLE \"A\" union table s.b; select 1 from c", "r:A r:c r:s.b"),
        ("with x as (table a) table x", "r:a"),
        ("copy a (b, c) to stdout", "r:a"),
        ("copy (select * from a) to stdout", "r:a"),
        ("explain select * from a", "r:a"),
        ("prepare p as select * from a", "r:a"),
        ("declare c cursor for select * from a", "r:a"),
        ("select * from a for update", "r:a"),
        ("values ((select 1 from a))", "r:a"),
    ]);
}

#[test]
fn tables_that_are_written() {
    check(&[
        ("insert into a values (1)", "w:a"),
        (
            "insert into a select * from b on conflict do nothing returning (select 1 from c)",
            "w:a r:b r:c",
        ),
        ("insert into a select * from a", "r:a w:a"),
        ("update s.a set x = b.x from b where exists (select from c)", "r:b r:c w:s.a"),
        ("delete from a using b where a.x = b.x", "w:a r:b"),
        ("merge into a using b on a.x = b.x when matched then delete", "w:a r:b"),
        ("truncate a, s.b", "w:a w:s.b"),
        ("copy a from stdin", "w:a"),
        ("create table a (b int)", "w:a"),
        ("create table a as select * from b", "w:a r:b"),
        ("select * into a from b", "w:a r:b"),
        ("select * into s.a from b", "r:b w:s.a"),
        ("create view a as select * from b", "w:a r:b"),
        ("alter table a add column b int", "w:a"),
        ("drop table if exists a, s.b", "w:a w:s.b"),
        ("drop view a", "w:a"),
        ("create index i on a (b)", "w:a"),
    ]);
}

#[test]
fn ctes_hide_tables_where_they_are_visible() {
    check(&[
        ("with x as (select * from a) select * from x, b", "r:a r:b"),
        ("with x as (select * from x) select * from x", "r:x"),
        ("with recursive x as (select 1 union select * from x) select * from x", ""),
        ("with x as (select * from y), y as (select * from x) select * from y", "r:y"),
        ("select * from (with x as (select 1) select * from x) s, x", "r:x"),
        (
            "with x as (select 1) select (select 1 from x), (with y as (select 1 from x) select 1 from y), (select 1 from y)",
            "r:y",
        ),
        ("with x as (select 1) select * from s.x", "r:s.x"),
        ("with X as (select 1) select * from x, \"X\"", "r:X"),
        ("with x as (delete from a returning *) insert into b select * from x", "w:a w:b"),
        ("with x as (select 1) insert into x select * from x", "w:x"),
        ("with x as (select 1) update t set a = 1 from x", "w:t"),
        ("with x as (select 1) select 1; select * from x", "r:x"),
    ]);
}

#[test]
fn names_are_cut_as_postgresql_cuts_them() {
    assert_eq!(
        tables(&format!("select * from {}", "a".repeat(70))),
        format!("r:{}", "a".repeat(63))
    );
}

#[test]
fn classes() {
    for (sql, class) in [
        ("select 1", Class::Dql),
        ("with x as (select delete from t) select 1", Class::Dql),
        ("with x as (delete from t returning *) select * from x", Class::Dml),
        ("select * into t from u", Class::Ddl),
        ("explain select 1", Class::Other),
        ("explain insert into t values (1)", Class::Other),
        ("explain analyze insert into t values (1)", Class::Dml),
        ("explain (analyze, verbose) delete from t", Class::Dml),
        ("explain (analyze off) delete from t", Class::Other),
        ("copy t from stdin", Class::Dml),
        ("copy t to stdout", Class::Dql),
        ("truncate t", Class::Dml),
        ("create table t (a int)", Class::Ddl),
        ("begin", Class::Other),
        ("select 1; insert into t values (1)", Class::Dml),
        ("", Class::Other),
    ] {
        let analysis = analyze(sql);
        assert!(analysis.parsed, "{sql}");
        assert_eq!(analysis.class, class, "{sql}");
    }
}

#[test]
fn what_the_parser_does_not_know_has_no_tables() {
    for (sql, class) in
        [("select * from (", Class::Dql), ("drop frob x", Class::Ddl), ("select 'a", Class::Dql)]
    {
        let analysis = analyze(sql);
        assert!(!analysis.parsed && analysis.tables.is_empty(), "{sql}");
        assert_eq!(analysis.class, class, "{sql}");
    }
}

/// Deep trees and long texts end in an answer, without running out of stack.
#[test]
fn deep_and_long_texts() {
    for depth in [10, 30, 45, 1000, 15_000, 100_000] {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("select * from (", "a", ")"),
            ("select (", "1", ")"),
            ("(select ", "1", ")"),
            ("select 1 union ", "select 1", ""),
            ("1 + ", "1", ""),
            ("not ", "a", ""),
            ("- ", "a", ""),
            ("a.", "a", ""),
            ("case when ", "1", " end"),
            ("a", "", "::int"),
            ("a", "", "[1]"),
            ("a", "", " is null"),
            ("a and ", "b", ""),
            ("f(", "1", ")"),
            ("array[", "1", "]"),
            ("explain ", "select 1", ""),
        ] {
            let head =
                if open.starts_with("select") || open == "explain " { "" } else { "select " };
            let open = if middle.is_empty() { open.to_owned() } else { open.repeat(depth) };
            let _ = analyze(&format!("{head}{open}{middle}{}", close.repeat(depth)));
        }
        let _ = analyze(&format!("select * from {}a{}", "(".repeat(depth), ")".repeat(depth)));
        let _ = analyze(&format!("select * from a {}", "join b on true ".repeat(depth)));
        let _ = analyze(&format!("select * from {}a", "a join (".repeat(depth)));
    }
    assert!(analyze(&format!("select {}1", "1 + ".repeat(16_000))).parsed);
    assert!(
        analyze(&format!("insert into t values {}(1, 'a')", "(1, 'a'), ".repeat(5_000))).parsed
    );
}
