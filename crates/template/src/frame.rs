//! Lives here: telling that a text is another one with other numbers and strings, without reading it anew.
//! Does not live here: what a text means (`shape.rs`).

use crate::lexer::{Kind, Lexer, is_space};

/// A text around its numbers and strings, which are not kept.
///
/// Texts that [differ](Frame::holds) in these values only have the same template, and the same [`Shape`](crate::Shape) if
/// that [does not depend on them](crate::Shape::depends_on_values). To find out costs about as much as to compare bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The text without these values.
    text: Box<[u8]>,
    values: Box<[Value]>,
}

/// A number or a string.
#[derive(Clone, Copy, Debug)]
struct Value {
    /// Before which byte of the rest it stands.
    before: u16,
    is_number: bool,
}

impl Frame {
    /// The longest text that has one, in bytes.
    pub const LONGEST: usize = 512;

    /// The most numbers and strings in a text that has one.
    pub const MOST: usize = 32;

    /// The frame of `sql`. `None` if it is too long, has too many values or one that begins with neither a digit nor a plain
    /// quote, or has comments: whatever is said in them is not kept either.
    #[must_use]
    pub fn of(sql: &[u8]) -> Option<Self> {
        if sql.len() > Self::LONGEST {
            return None;
        }
        let (mut text, mut values) = (Vec::with_capacity(sql.len()), Vec::new());
        let mut at = 0;
        for token in Lexer::new(sql) {
            let start = token.start(sql);
            text.extend(blank(sql.get(at..start)?)?);
            at = start + token.text.len();
            match token.kind {
                Kind::Number | Kind::String => {
                    Lexer::plain_value(sql, start)?;
                    let is_number = token.kind == Kind::Number;
                    values.push(Value { before: u16::try_from(text.len()).ok()?, is_number });
                }
                Kind::Unterminated => return None,
                _ => text.extend(token.text),
            }
        }
        text.extend(blank(sql.get(at..)?)?);
        (values.len() <= Self::MOST).then(|| Self { text: text.into(), values: values.into() })
    }

    /// Whether `sql` has the same bytes but for the values of numbers and of strings in plain quotes: so it is made of the
    /// same tokens otherwise.
    ///
    /// What comes before such a value is read without regard to which it is: it only has to be known that a digit follows,
    /// or a quote. How far the value goes the lexer says, and from there on the text is read as if it began anew. Of values
    /// that begin in any other way this is not so: after `a`, `e'` begins none.
    #[must_use]
    pub fn holds(&self, sql: &[u8]) -> bool {
        let (mut at, mut from) = (0, 0);
        for value in &self.values {
            let before = usize::from(value.before);
            let same = &self.text[from..before];
            let here = at + same.len();
            if sql.get(at..here) != Some(same) {
                return false;
            }
            match Lexer::plain_value(sql, here) {
                Some((kind, end)) if (kind == Kind::Number) == value.is_number => at = end,
                _ => return false,
            }
            from = before;
        }
        sql.get(at..) == self.text.get(from..)
    }
}

/// What stands between two tokens, if that is white space.
fn blank(between: &[u8]) -> Option<&[u8]> {
    between.iter().all(|byte| is_space(*byte)).then_some(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sql: &str) -> Option<Frame> {
        Frame::of(sql.as_bytes())
    }

    fn holds(one: &str, other: &str) -> bool {
        frame(one).is_some_and(|frame| frame.holds(other.as_bytes()))
    }

    #[test]
    fn texts_that_differ_in_values_are_held() {
        for (one, other) in [
            ("select 1", "select 1"),
            ("select 1", "select 12345.5e-3"),
            ("select a from t where id = 7;", "select a from t where id = 4711;"),
            (
                "select a from t where b = 'x' and c = 5",
                "select a from t where b = 'it''s' and c = 66",
            ),
            ("update t set a=a+1,b='x' where c=3", "update t set a=a+22,b='' where c=4"),
            ("insert into t values (1, 'a', $1)", "insert into t values (2, 'b', $1)"),
            ("select 'a'\n, 6", "select 'b'\n'c'\n, 7"),
            ("select a ? 'b'", "select a ? 'c'"),
        ] {
            assert!(holds(one, other), "{one} | {other}");
        }
    }

    #[test]
    fn any_other_difference_counts() {
        for (one, other) in [
            ("select 1", "select '1'"),
            ("select 1", "select 1 "),
            ("select 1", "select .5"),
            ("select 1, 2", "select 1"),
            ("select 1", "select 1, 2"),
            ("select a'x'", "select ae'x'"),
            ("select 'x'", "select E'x'"),
            ("select 'x'", "select 'x"),
            ("select $1", "select $2"),
            ("select a1", "select a2"),
            ("select 1 from t", "select 1fromx from t2"),
            ("", "select"),
        ] {
            assert!(!holds(one, other), "{one} | {other}");
        }
    }

    #[test]
    fn no_constant_and_no_comment_is_kept() {
        let kept = frame("select a, 'secret', 4711 from t").expect("it has one");
        assert_eq!(&*kept.text, b"select a, ,  from t");
        for sql in [
            "select E'secret'",
            "select $$secret$$",
            "select .4711",
            "select U&'secret'",
            "select b'1'",
            "select 'secret",
            "select \"secret",
            "select /* secret */ 1",
            "select 1 -- secret",
            "select 1 /* secret",
        ] {
            assert!(frame(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn a_frame_is_small() {
        assert!(frame(&"1,".repeat(Frame::MOST)).is_some());
        assert!(frame(&"1,".repeat(Frame::MOST + 1)).is_none());
        assert!(frame(&"a".repeat(Frame::LONGEST)).is_some());
        assert!(frame(&"a".repeat(Frame::LONGEST + 1)).is_none());
    }
}
