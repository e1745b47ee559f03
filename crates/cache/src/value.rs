//! Values that a query can pin a column to, in one form however they were written.
//!
//! Reading is strict: what is not plainly one value of its type gives `None`, and the caller then depends on
//! the whole table. That two spellings are one value matters, and that is all a pin needs.

/// The types whose equality is equality of the [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `oid`
    Oid,
    /// `boolean`
    Bool,
    /// `uuid`
    Uuid,
    /// `text` and `varchar`, if their collation is deterministic.
    Text,
}

impl ValueType {
    /// The type with this `pg_type.oid`, if it can pin. The caller looks at the collation.
    pub fn from_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 | 1043 => Self::Text,
            26 => Self::Oid,
            2950 => Self::Uuid,
            _ => return None,
        })
    }

    fn holds(self, number: i64) -> bool {
        match self {
            Self::Int2 => i16::try_from(number).is_ok(),
            Self::Int4 => i32::try_from(number).is_ok(),
            Self::Oid => u32::try_from(number).is_ok(),
            Self::Int8 => true,
            Self::Bool | Self::Uuid | Self::Text => false,
        }
    }
}

/// The canonical value of a column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Any of the integers, and `oid`.
    Int(i64),
    /// `boolean`
    Bool(bool),
    /// `uuid`
    Uuid([u8; 16]),
    /// `text` or `varchar`, in the server's encoding.
    Text(Box<[u8]>),
}

impl Value {
    /// Reads the text form of a parameter, a constant's contents, or a column in the log.
    pub fn from_text(kind: ValueType, text: &[u8]) -> Option<Self> {
        match kind {
            ValueType::Text => (!text.contains(&0)).then(|| Self::Text(text.into())),
            ValueType::Bool => boolean(text).map(Self::Bool),
            ValueType::Uuid => uuid(text).map(Self::Uuid),
            ValueType::Int2 | ValueType::Int4 | ValueType::Int8 | ValueType::Oid => {
                // `parse` takes a sign and digits only.
                let number = std::str::from_utf8(text).ok()?.parse().ok()?;
                let signed = matches!(text.first(), Some(b'-' | b'+'));
                // A negative oid is read as a large one, and nobody writes it.
                (kind.holds(number) && !(signed && kind == ValueType::Oid))
                    .then_some(Self::Int(number))
            }
        }
    }

    /// Reads the binary form.
    pub fn from_binary(kind: ValueType, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            ValueType::Text => return Self::from_text(kind, bytes),
            ValueType::Bool => match bytes {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                _ => return None,
            },
            ValueType::Uuid => Self::Uuid(bytes.try_into().ok()?),
            ValueType::Int2 => Self::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            ValueType::Int4 => Self::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            ValueType::Int8 => Self::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
            ValueType::Oid => Self::Int(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        })
    }
}

/// PostgreSQL takes any unambiguous beginning of these words, in any case (`parse_bool_with_len`).
fn boolean(text: &[u8]) -> Option<bool> {
    let begins = |word: &str, shortest: usize| {
        (shortest..=word.len()).contains(&text.len())
            && word.as_bytes()[..text.len()].eq_ignore_ascii_case(text)
    };
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == b"1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == b"0" {
        Some(false)
    } else {
        None
    }
}

/// PostgreSQL takes either case, braces around all, and a hyphen after any group of four digits
/// (`string_to_uuid`).
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text {
        [b'{', inside @ .., b'}'] => inside,
        [b'{', ..] => return None,
        _ => text,
    };
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let (pair, after) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
        rest = match after {
            [b'-', after @ ..] if index % 2 == 1 && index < 15 => after,
            _ => after,
        };
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_value_however_written() {
        for text in ["7", "+7", "007"] {
            assert_eq!(Value::from_text(ValueType::Int4, text.as_bytes()), Some(Value::Int(7)));
        }
        assert_eq!(Value::from_binary(ValueType::Int2, &[0, 7]), Some(Value::Int(7)));
        assert_eq!(Value::from_binary(ValueType::Oid, &[255; 4]), Some(Value::Int(4_294_967_295)));
        for wrong in ["", " 7", "7 ", "7.0", "0x7", "1_0", "2147483648", "+", "-"] {
            assert_eq!(Value::from_text(ValueType::Int4, wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Value::from_text(ValueType::Oid, b"-1"), None);
        assert_eq!(Value::from_binary(ValueType::Int4, &[0, 7]), None);
    }

    #[test]
    fn booleans_are_read_as_postgres_does() {
        for (text, value) in [("t", true), ("TRU", true), ("yes", true), ("on", true), ("1", true)]
        {
            assert_eq!(
                Value::from_text(ValueType::Bool, text.as_bytes()),
                Some(Value::Bool(value))
            );
        }
        for text in ["f", "False", "n", "of", "0"] {
            assert_eq!(
                Value::from_text(ValueType::Bool, text.as_bytes()),
                Some(Value::Bool(false))
            );
        }
        for wrong in ["", "o", "truee", "2", " t"] {
            assert_eq!(Value::from_text(ValueType::Bool, wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn uuids_have_one_value_however_written() {
        let plain = Value::from_text(ValueType::Uuid, b"a0eebc999c0b4ef8bb6d6bb9bd380a11");
        assert!(plain.is_some());
        for same in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(Value::from_text(ValueType::Uuid, same.as_bytes()), plain, "{same}");
        }
        for wrong in ["", "{a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0-eebc999c0b4ef8bb6d6bb9bd380a11"]
        {
            assert_eq!(Value::from_text(ValueType::Uuid, wrong.as_bytes()), None, "{wrong}");
        }
    }
}
