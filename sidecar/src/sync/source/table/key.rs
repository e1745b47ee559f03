//! Keys of rows as models bear them.

use serde_json::value::RawValue;

/// The longest key in bytes: what is longer can't be told from others by an index.
pub(crate) const MOST_KEY: usize = 2000;

/// The text of a value of a key, given its JSON: of a string what it says, of a number or a boolean how it is written.
/// `None` for NULL, and for what is no single value.
pub(crate) fn text(json: &[u8]) -> Option<String> {
    match json.first()? {
        b'"' => serde_json::from_slice(json).ok(),
        b'n' | b'{' | b'[' => None,
        _ => std::str::from_utf8(json).ok().map(str::to_owned),
    }
}

/// The key of a model, given the values of the key's columns.
pub(crate) fn join(mut texts: Vec<String>) -> String {
    match texts.len() {
        1 => texts.remove(0),
        // Texts can always be written.
        _ => serde_json::to_string(&texts).unwrap_or_default(),
    }
}

/// The values of so many columns; `None` if it is the key of something else.
pub(super) fn split(key: &str, count: usize) -> Option<Vec<String>> {
    if count == 1 {
        return Some(vec![key.to_owned()]);
    }
    serde_json::from_str::<Vec<String>>(key).ok().filter(|texts| texts.len() == count)
}

/// The key that these values make; `None` if one of them is NULL.
pub(super) fn of_values(values: &[&RawValue]) -> Option<String> {
    let texts: Option<Vec<String>> =
        values.iter().map(|value| text(value.get().as_bytes())).collect();
    texts.map(join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_is_written() {
        for (json, wanted) in
            [("7", "7"), ("\"a\\\"b\"", "a\"b"), ("true", "true"), ("1.50", "1.50")]
        {
            assert_eq!(text(json.as_bytes()).as_deref(), Some(wanted));
        }
        for none in ["null", "[1]", "{}", ""] {
            assert_eq!(text(none.as_bytes()), None);
        }
        let texts = vec!["1".to_owned(), "a,\"b".to_owned()];
        assert_eq!(split(&join(texts.clone()), 2), Some(texts));
        assert_eq!(split("7", 1), Some(vec!["7".to_owned()]));
        assert_eq!((split("7", 2), split("[\"1\"]", 2)), (None, None));
    }
}
