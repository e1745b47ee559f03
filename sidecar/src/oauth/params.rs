//! The parameters of a request: a query string, or a form.

use std::collections::HashSet;

/// More than anybody needs: a request of OAuth has some ten.
const MOST: usize = 50;

/// Parameters in their order.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads what is URL-encoded; anything can be.
    pub(crate) fn read(encoded: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(encoded);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// What a parameter says. One without a value is as good as none (RFC 6749, 3.1).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether it is there more than once, so that two who read it might read two things.
    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.0.iter().filter(|(known, _)| known == name).nth(1).is_some()
    }

    /// What is wrong with them as a whole.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let mut names = HashSet::new();
        if self.0.len() > MOST {
            Some("there are more than 50 parameters")
        } else if !self.0.iter().all(|(name, _)| names.insert(name)) {
            Some("a parameter is there twice")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_one_is_none_and_two_are_told() {
        let params = Params::read(b"a=1&b=&c=x+%26y&a=2");
        assert_eq!((params.get("a"), params.get("b")), (Some("1"), None));
        assert_eq!(params.get("c"), Some("x &y"));
        assert!(params.is_repeated("a") && !params.is_repeated("c"));
        assert_eq!(params.fault(), Some("a parameter is there twice"));
    }

    #[test]
    fn as_many_as_a_body_holds_take_no_time_to_refuse() {
        let many = |count: usize| (0..count).map(|n| format!("{n}=&")).collect::<String>();
        assert_eq!(Params::read(many(MOST).as_bytes()).fault(), None);
        for count in [MOST + 1, 64 << 10] {
            let fault = Params::read(many(count).as_bytes()).fault();
            assert_eq!(fault, Some("there are more than 50 parameters"));
        }
    }
}
