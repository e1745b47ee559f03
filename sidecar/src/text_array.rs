//! Arrays in the text form that Postgres reads (manual, "Array Input and Output Syntax").

use std::fmt::Display;

/// An array of texts.
pub(crate) fn of_texts<T: AsRef<str>>(elements: impl IntoIterator<Item = T>) -> String {
    of(elements.into_iter().map(|text| {
        let text = text.as_ref().replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    }))
}

/// An array of what needs no quotes: numbers.
pub(crate) fn of_numbers(elements: impl IntoIterator<Item: Display>) -> String {
    of(elements.into_iter().map(|number| number.to_string()))
}

fn of(elements: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", elements.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_an_element_is_escaped() {
        assert_eq!(of_texts(["a\"b\\", "", "x,y"]), r#"{"a\"b\\","","x,y"}"#);
        assert_eq!(of_numbers([1, 20]), "{1,20}");
        assert_eq!(of_numbers([0_u32; 0]), "{}");
    }
}
