//! The template of a text, rule by rule.

use integratedb_template::{MAX_TEMPLATE, Shape};

fn template(sql: impl AsRef<[u8]>) -> String {
    let template = Shape::of(sql.as_ref()).template;
    assert_eq!(Shape::of(template.as_bytes()).template, template, "of the template itself");
    template
}

fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(template(sql), *expected, "{sql}");
    }
}

#[test]
fn constants_of_every_kind() {
    check(&[
        (
            "select 'a', E'it\\'s', $$x$$, $t$ $$ $t$, b'1', x'F', n'y', U&'z'",
            "select ?, ?, ?, ?, ?, ?, ?, ?",
        ),
        ("select 1, 1.5, .5, 1e-10, 0x1F, 1_000", "select ?, ?, ?, ?, ?, ?"),
        ("select 'a'\n 'b' , 'c'", "select ?, ?"),
        ("select a1, tbl1.c2 from t3", "select a1, tbl1.c2 from t3"),
        ("select true, FALSE, null, $1", "select true, false, null, $1"),
        ("select interval '1 day' - date '2024-01-01'", "select interval ? - date ?"),
        ("select 'a'::text, 1::int4", "select ?::text, ?::int4"),
        ("select $5551234567", "select ?"),
    ]);
}

#[test]
fn spaces_comments_case_and_semicolons() {
    check(&[
        ("  SELECT\n\t*  FROM\tT -- why\n ; ; ", "select * from t"),
        ("select/* a /* b */ */1", "select ?"),
        ("SELECT \"Id\" , T . c FROM \"My Table\" T", "select \"Id\", t.c from \"My Table\" t"),
        ("begin;;select 1;commit;", "begin; select ?; commit"),
        (
            "select count (*) , count(*) from t where( a=1 )",
            "select count(*), count(*) from t where (a = ?)",
        ),
        ("select a[1], a [1:2], t.*, x::int[]", "select a[?], a[? : ?], t.*, x::int[]"),
        ("select a\n||b||'c'", "select a || b || ?"),
        ("a[b: :c] . . d :: :: e : := f", "a[b : : c]. .d:: ::e : := f"),
        ("select f(a := 1, b => 2)", "select f(a := ?, b => ?)"),
        ("", ""),
        (" -- nothing", ""),
    ]);
}

#[test]
fn signs_belong_to_constants_where_nothing_is_subtracted() {
    check(&[
        ("select -1, - 1, +1, a-1, a - -1, - -1", "select ?, ?, ?, a - ?, a - ?, ?"),
        ("where a = -1 and b in (-1, +2) and c=-d", "where a = ? and b in (?) and c = - d"),
        (
            "select (a)-1, $1-1, a[1]-1, 1-1, - - a",
            "select (a) - ?, $1 - ?, a[?] - ?, ? - ?, - - a",
        ),
        ("limit -1", "limit ?"),
    ]);
}

#[test]
fn lists_shrink_to_one() {
    check(&[
        ("a in (1)", "a in (?)"),
        ("a in (1, 'b', -3)", "a in (?)"),
        ("a in ($2, $3)", "a in ($2)"),
        ("a in (- - 1, 2)", "a in (?)"),
        ("a in (1, b, 2)", "a in (?, b, ?)"),
        ("a = any(array[1,2,3])", "a = any (array[?])"),
        ("(a, b) in ((1, 2), (3, 4))", "(a, b) in ((?))"),
        ("insert into t (a, b) values (1, 2), (3, 4), (5, 6)", "insert into t(a, b) values (?)"),
        ("insert into t values ($1, $2), ($3, $4)", "insert into t values ($1)"),
        ("values (default, 1), (default, 2), (3, default)", "values (default, ?), (?, default)"),
        (
            "values (now(), $1, f(1)), (now(), $2, f(2)) on conflict do nothing",
            "values (now(), $1, f(?)) on conflict do nothing",
        ),
        ("values (a, (values (1), (2))), (a, (values (3)))", "values (a, (values (?)))"),
        ("select f(1, 2), g(1, 2, 3)", "select f(?, ?), g(?, ?, ?)"),
        ("select (a), (a)", "select (a), (a)"),
    ]);
}

#[test]
fn values_of_set_are_constants_without_quotes() {
    check(&[
        ("SET a = secret", "set a = ?"),
        ("set a to b, 'c', 4", "set a = ?"),
        ("set a=-1", "set a = ?"),
        ("set local a.b TO secret; select 1", "set local a.b = ?; select ?"),
        ("set session a = on", "set session a = ?"),
        ("set session.a = on; set local to x", "set session.a = ?; set local = ?"),
        ("set a to default", "set a = default"),
        ("set a = \"Secret\"", "set a = ?"),
        ("set time zone Europe/Berlin", "set time zone ?"),
        ("set local time zone interval '1' hour", "set local time zone ?"),
        ("set role secret", "set role ?"),
        ("set local role \"Secret\"", "set local role ?"),
        ("set session authorization secret", "set session authorization ?"),
        (
            "set names latin1; set schema 'x'; set xml option document",
            "set names ?; set schema ?; set xml option ?",
        ),
        ("set a secret words", "set a ?"),
        ("set a from current", "set a from current"),
        ("set a from secret", "set a ?"),
        (
            "set transaction isolation level serializable",
            "set transaction isolation level serializable",
        ),
        (
            "set session characteristics as transaction read only",
            "set session characteristics as transaction read only",
        ),
        ("set constraints all deferred", "set constraints all deferred"),
        ("set", "set ?"),
        ("(set a = secret", "(set a = ?"),
    ]);
}

#[test]
fn stored_settings_and_passwords_too() {
    check(&[
        ("alter role x set a = secret", "alter role x set a = ?"),
        ("alter user x in database d set a to secret, b", "alter user x in database d set a = ?"),
        ("alter database d set a to secret", "alter database d set a = ?"),
        ("alter database d set tablespace t", "alter database d set tablespace t"),
        ("alter system set a = secret", "alter system set a = ?"),
        (
            "create function f(int) returns int set a = secret, b language sql as $$ select 1 $$",
            "create function f(int) returns int set a = ? language sql as ?",
        ),
        ("alter function f(int) set schema s", "alter function f(int) set schema s"),
        ("update t set a = b, c = 'd'", "update t set a = b, c = ?"),
        ("alter table t alter a set default b", "alter table t alter a set default b"),
        ("create role x password 'secret'", "create role x password ?"),
        (
            "alter user x with encrypted password secret valid until 'y'",
            "alter user x with encrypted password ? valid until ?",
        ),
        ("alter role x password null", "alter role x password null"),
        ("create table t (password text)", "create table t(password text)"),
    ]);
}

#[test]
fn statements_with_bodies_and_payloads() {
    check(&[
        ("notify ch, 'secret'", "notify ch, ?"),
        ("do $$ begin perform 'secret'; end $$", "do ?"),
        ("do language plpgsql 'secret'", "do language plpgsql ?"),
        ("comment on table t is 'secret'", "comment on table t is ?"),
        (
            "create function f() returns int begin atomic select 1; select case when a then 2 end; end; select 3",
            "create function f() returns int begin atomic select ?; select case when a then ? end; end; select ?",
        ),
    ]);
}

#[test]
fn what_has_no_end_is_a_constant_and_the_last() {
    check(&[
        ("select 'secret", "select ?"),
        ("select a, E'sec\\'ret", "select a, ?"),
        ("select \"secret", "select ?"),
        ("select $$secret", "select ?"),
        ("select 1 /* secret", "select ? ?"),
        ("a in (1, 2, 'secret", "a in (?, ?, ?"),
    ]);
}

#[test]
fn bytes_that_are_no_utf8_are_replaced() {
    assert_eq!(
        template(b"select \xff, '\xfe', \"\xe9t\xe9\""),
        "select \u{fffd}, ?, \"\u{fffd}t\u{fffd}\""
    );
    assert_eq!(template("SELECT GRÖSSE"), "select grÖsse", "only ASCII is folded");
    assert_eq!(template(b"select\x00\x01 1 \\ { $ }"), "select ? \\ { $ }");
}

#[test]
fn a_long_template_is_cut_after_a_token() {
    let sql = |count: usize| format!("select {}", "abc + ".repeat(count));
    let cut = template(sql(10_000));
    assert!(cut.len() <= MAX_TEMPLATE && cut.len() > MAX_TEMPLATE - 12, "{}", cut.len());
    assert!(cut.ends_with(" …"));
    // Wherever the cut falls, the template of a template is itself.
    for tail in [
        "set a.b = c; ",
        "create role x password 'y'; ",
        "values (a, 1), (a, 2), ",
        "x - - 1, ",
        "f(\"é\"::t[1:2]) ",
        "; set role x; (",
        "\u{e9}\u{fffd}.a ",
    ] {
        for padding in 0..60 {
            let sql = format!("select {} {}", "a".repeat(padding), tail.repeat(2000));
            assert!(template(&sql).len() <= MAX_TEMPLATE);
            template(format!("select {};{}", "a".repeat(padding + 4020), tail.repeat(3)));
        }
    }
    assert_eq!(template(format!("select \"{}\"", "a".repeat(5000))), "select …");
    assert_eq!(template(format!("a in ({}2)", "1, ".repeat(100_000))), "a in (?)");
    assert_eq!(template(format!("values {}(b, 2)", "(b, 1), ".repeat(100_000))), "values (b, ?)");
}

/// Each of these would take far longer if a part of it were read again for every token.
#[test]
fn the_time_is_linear() {
    for unit in [
        "+-",
        "- ",
        "(",
        "(1,",
        "[1,",
        "set_config('a',",
        "$a",
        "$a$ ",
        "/*",
        "'a'\n--\n",
        "set a.",
        "values (",
        "(1),(1,1,a),",
        "… ",
        "set a = b;",
        "a.",
        "\"a\"uescape",
        "alter role x set a,",
    ] {
        let sql = unit.repeat(300_000 / unit.len());
        assert!(template(&sql).len() <= MAX_TEMPLATE);
        assert!(template(format!("set {sql}")).len() <= MAX_TEMPLATE);
        assert!(template(format!("values {sql}")).len() <= MAX_TEMPLATE);
    }
}
