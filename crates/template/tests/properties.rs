//! Promises that hold for any text: it is read without a panic, and no constant survives.

use integratedb_template::lexer::Lexer;
use integratedb_template::{Frame, MAX_TEMPLATE, Shape, analyze};
use proptest::prelude::*;

/// What a secret is made of, so that it can be told from everything else in a template.
const MARK: &str = "zqx";

fn template(sql: &str) -> String {
    Shape::of(sql.as_bytes()).template
}

/// A constant with [`MARK`] or the digits `7777` in it, in some quoting.
fn constant() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        any::<String>(),
        Just("'; set role x; --".to_owned()),
        Just("$$ \" /* ".to_owned()),
    ];
    let text = (text.clone(), text).prop_map(|(a, b)| format!("{a} {MARK} {b}"));
    let quoted = |text: String| text.replace('\'', "''");
    prop_oneof![
        text.clone().prop_map(move |text| format!("'{}'", quoted(text))),
        text.clone().prop_map(move |text| format!("E'{}'", quoted(text.replace('\\', "\\\\")))),
        text.clone()
            .prop_map(|text| { format!("e'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")) }),
        text.clone().prop_map(move |text| format!("N'{}'", quoted(text))),
        text.clone().prop_map(move |text| format!("U&'{}'", quoted(text))),
        text.clone().prop_map(move |text| format!("'zqx' -- why\n '{}'", quoted(text))),
        text.clone().prop_map(|text| format!("$t_1${text}$t_1$")),
        text.prop_map(|text| format!("$${}$$", text.replace('$', ""))),
        "[0-9]{0,5}".prop_map(|digits| format!("7777{digits}")),
        "[0-9]{0,5}".prop_map(|digits| format!(".7777{digits}e-7777")),
        "[0-9a-f]{0,5}".prop_map(|digits| format!("0x7777{digits}")),
        Just("7_777.7777".to_owned()),
        Just("b'7777'".to_owned()),
        Just("X'7777'".to_owned()),
    ]
}

/// Queries with `@` in the place of constants.
const SKELETONS: &[&str] = &[
    "SELECT * FROM t1 WHERE a = @ AND b < -@ OR c LIKE @::text",
    "select a,b from \"T 2\" where a in (@, @,@) and b between @ and @ limit @ offset @",
    "insert into t(a, b) values (@, @), (@, @), (default, @), (now(), f(@, @))",
    "update t set a = @, b = b + @ where c = any(array[@, @]) returning a[@]",
    "delete from t where a @> @ -- why @\n and b",
    "with x as (select @ as a) select case when a = @ then @ else @ end from x",
    "set a = @",
    "SET LOCAL a.b TO @, @",
    "set time zone @; select @",
    "alter role x with password @ valid until @",
    "alter system set a = @",
    "create function f(int default @) returns int set a = @ as @",
    "notify ch, @",
    "do @",
    "comment on table t is @",
    "select set_config(@, @, false)",
    "copy t from @ with (delimiter @)",
    "select interval @ - date @, a->>@, b#>@, c::numeric(@,@)",
    "prepare transaction @; begin; select (@), ((@, @), (@, @))",
    "/* @ */ select f(a, @, $1), @",
    "explain (costs off) select '@' || @",
    "select @ 'zqx unterminated",
];

fn filled() -> impl Strategy<Value = (String, String)> {
    let constants = || prop::collection::vec(constant(), 12);
    (0..SKELETONS.len(), constants(), constants()).prop_map(|(skeleton, one, two)| {
        let fill = |constants: &[String]| {
            let mut constants = constants.iter();
            let mut parts = SKELETONS[skeleton].split('@');
            let mut sql = parts.next().expect("split gives one part at least").to_owned();
            for part in parts {
                let before_quote = sql.ends_with('\'');
                // Inside a comment or a string of the skeleton only what ends neither is put.
                let inside = before_quote || sql.ends_with("/* ") || sql.ends_with("why ");
                let operator = part.starts_with('>') || part.starts_with(" @>");
                if inside {
                    sql.push_str(MARK);
                } else if !operator {
                    sql.push_str(constants.next().expect("there are enough"));
                } else {
                    sql.push('@');
                }
                sql.push_str(part);
            }
            sql
        };
        (fill(&one), fill(&two))
    })
}

/// A piece that is likely to meet a rule when it stands beside others.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "select",
        "set",
        "SET ",
        "local",
        "session",
        "reset",
        "values",
        "(",
        ")",
        "[",
        "]",
        ",",
        ";",
        ".",
        "..",
        ":",
        "::",
        ":=",
        "=",
        "-",
        "+",
        "?",
        "*",
        "/",
        "'a'",
        "'",
        "\"",
        "\"A b\"",
        "U&\"a\"",
        "uescape",
        "E'",
        "\\'",
        "$$",
        "$t$",
        "$1",
        "$",
        "1",
        ".5",
        "1e5",
        "a",
        "t1",
        "é",
        "…",
        "\n",
        " ",
        " ",
        " ",
        "--",
        "/*",
        "*/",
        "in",
        "array",
        "default",
        "to",
        "time zone",
        "role",
        "create",
        "function",
        "begin atomic",
        "end",
        "case",
        "alter",
        "password",
        "x",
        "user",
        "with",
        "insert",
        "into",
        "temp",
        "copy",
        "from",
        "current",
        "set_config(",
        "true",
        "null",
        "{",
        "\u{1}",
        "a.b",
        "prepare",
        "transaction",
        "characteristics",
    ])
}

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

/// Two texts of the same pieces, with other values between them.
fn alike() -> impl Strategy<Value = (String, String)> {
    let number = || "[0-9][0-9a-fx_.e+-]{0,3}";
    let string = || "'[a-z0-9'\n\\\\-]{0,4}'";
    // They begin or end like something else.
    let odd = || {
        let odd =
            vec!["e'x'", "b'1'", "U&'x'", ".5", "5.", "$$x$$", "$1$a$1$", "'pg_temp'", "'", "?"];
        prop::sample::select(odd).prop_map(str::to_owned)
    };
    let slot = prop_oneof![
        6 => piece().prop_map(|piece| (piece.to_owned(), piece.to_owned())),
        3 => (number(), number()),
        3 => (string(), string()),
        1 => (prop_oneof![number(), string(), odd()], odd()),
        1 => odd().prop_map(|odd| (odd.clone(), odd)),
    ];
    let starts = vec!["select ", "select a", "update t set a=", "insert into t values("];
    (prop::sample::select(starts), prop::collection::vec(slot, 0..5)).prop_map(|(start, slots)| {
        let (one, two): (Vec<_>, Vec<_>) = slots.into_iter().unzip();
        (format!("{start}{}", one.concat()), format!("{start}{}", two.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let shape = Shape::of(&bytes);
        prop_assert_eq!(&template(&shape.template), &shape.template);
        // Tokens stand in order and never overlap.
        let text: usize = Lexer::new(&bytes).map(|token| token.text.len()).sum();
        prop_assert!(text <= bytes.len());
    }

    #[test]
    fn a_templates_template_is_itself(sql in pieces()) {
        let once = template(&sql);
        prop_assert_eq!(template(&once), once);
    }

    #[test]
    fn a_cut_templates_template_is_itself(sql in pieces(), padding in 3_900..4_200_usize) {
        let once = template(&format!("select {}{sql}", "a ".repeat(padding / 2)));
        prop_assert!(once.len() <= MAX_TEMPLATE);
        prop_assert_eq!(template(&once), once);
    }

    #[test]
    fn no_constant_survives((sql, _) in filled()) {
        let template = template(&sql);
        prop_assert!(!template.contains(MARK) && !template.contains("7777"), "{} from {}", template, sql);
        prop_assert!(!template.contains('\''), "{} from {}", template, sql);
    }

    #[test]
    fn texts_that_differ_in_constants_have_one_template((one, two) in filled()) {
        prop_assert_eq!(template(&one), template(&two));
        let (one, two) = (Shape::of(one.as_bytes()), Shape::of(two.as_bytes()));
        prop_assert_eq!((one.class, one.statements, one.verbs), (two.class, two.statements, two.verbs));
    }

    #[test]
    fn a_bare_word_never_survives_set(word in "zqx[a-z0-9_./@$-]{0,10}", local in any::<bool>()) {
        let local = if local { "local" } else { "" };
        for name in ["a =", "a to b,", "time zone", "role", "session authorization", "names", "a"] {
            let template = template(&format!("begin; set {local} {name} {word}; select 1"));
            prop_assert!(!template.contains(MARK), "{}", template);
        }
    }

    #[test]
    fn white_space_and_comments_make_no_difference(sql in filled(), blank in "[ \t\n]{0,3}") {
        let spaced = format!("{blank} /* {MARK} */ {} -- {MARK}", sql.0);
        prop_assert_eq!(template(&spaced), template(&sql.0));
    }

    #[test]
    fn analysis_of_anything_ends(sql in pieces(), text in any::<String>()) {
        let _ = analyze(&sql);
        let _ = analyze(&text);
    }

    #[test]
    fn analysis_keeps_no_constant((sql, _) in filled()) {
        let analysis = analyze(&sql);
        let text = format!("{analysis:?}");
        prop_assert!(!text.contains(MARK), "{}", text);
    }
}

proptest! {
    // The texts have to differ where it matters.
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_a_frame_holds_has_its_shape((one, two) in prop_oneof![9 => alike(), 1 => filled()]) {
        if let Some(frame) = Frame::of(one.as_bytes()) {
            prop_assert!(frame.holds(one.as_bytes()));
            if frame.holds(two.as_bytes()) {
                let (one, two) = (Shape::of(one.as_bytes()), Shape::of(two.as_bytes()));
                prop_assert_eq!(&one.template, &two.template);
                prop_assert!(one == two || one.depends_on_values(), "{:?} {:?}", one, two);
            }
        }
    }
}
