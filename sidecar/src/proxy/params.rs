//! Names and values that travel together: what a server reports of its settings, and what a session has set.

use std::collections::BTreeMap;
use std::sync::Arc;

type Pairs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The bytes of all names and values that are noted of what a server reports: one has some fifteen short ones.
const REPORTED: usize = 256 << 10;

/// Names and values, shared until one changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Arc<Pairs>);

impl Params {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.get(name).map(|value| &**value)
    }

    /// Copies what is shared only where the value is another one.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        if self.get(name) != Some(value) {
            Arc::make_mut(&mut self.0).insert(name.into(), value.into());
        }
    }

    /// Takes what a server reports. Of one that reports without end, what is too much is not noted.
    pub(crate) fn report(&mut self, name: &[u8], value: &[u8]) {
        if self.get(name) == Some(value) {
            return;
        }
        let taken: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        if taken + name.len() + value.len() <= REPORTED {
            self.set(name, value);
        }
    }

    /// These, and what `below` has besides.
    pub(crate) fn over(self, below: &Self) -> Self {
        let mut all = self;
        for (name, value) in below.iter() {
            if all.get(name).is_none() {
                all.set(name, value);
            }
        }
        all
    }

    /// Whether both are the same; at once where they are shared.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self == other
    }

    /// What of `self` is not so in `other`.
    pub(crate) fn beyond<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.iter().filter(|(name, value)| other.get(name) != Some(value))
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for Params {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(pairs: I) -> Self {
        Self(Arc::new(pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_reports_has_an_end() {
        let mut params = Params::default();
        for number in 0..1000 {
            params.report(format!("name {number}").as_bytes(), &[b'x'; 10_000]);
        }
        let bytes: usize = params.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= REPORTED && params.get(b"name 0").is_some());
    }
}
