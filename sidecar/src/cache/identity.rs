//! What decides an answer besides the statement and its parameters: the role, and the settings of the session.

use serde::Deserialize;

use super::key::Hasher;

/// What a session is, as far as answers can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The same for two sessions exactly if one may get what the other was answered.
    pub(crate) hash: u128,
    /// Everything but the role, for templates that a rule shares across roles.
    pub(crate) hash_without_role: u128,
    /// Whether answers may be kept for it at all.
    pub(crate) is_usable: bool,
    /// A transaction begun without further ado is READ COMMITTED.
    pub(crate) reads_committed: bool,
}

/// What `integratedb.session_key` gives.
#[derive(Deserialize)]
struct SessionKey {
    key: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    temporary: bool,
    #[serde(default)]
    in_recovery: bool,
    #[serde(default)]
    isolation: String,
}

/// Keys of [`SessionKey::key`] that name the role.
const ROLE: [&str; 2] = ["user", "session_user"];

impl Identity {
    /// Reads the answer of `integratedb.session_key`.
    pub(crate) fn read(json: &[u8], hasher: &Hasher) -> Result<Self, serde_json::Error> {
        let mut session: SessionKey = serde_json::from_slice(json)?;
        let hash_of = |key: &serde_json::Map<_, _>| {
            hasher.hash(&[serde_json::to_string(key).unwrap_or_default().as_bytes()])
        };
        let hash = hash_of(&session.key);
        session.key.retain(|name, _| !ROLE.contains(&name.as_str()));
        Ok(Self {
            hash,
            hash_without_role: hash_of(&session.key),
            is_usable: !session.temporary && !session.in_recovery,
            reads_committed: session.isolation == "read committed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Identity {
        Identity::read(json.as_bytes(), &Hasher::new([7; 16])).expect("well formed")
    }

    #[test]
    fn sessions_are_told_apart_by_all_of_the_key() {
        let first =
            read(r#"{"key": {"user": 10, "TimeZone": "UTC"}, "isolation": "read committed"}"#);
        assert!(first.is_usable && first.reads_committed);
        let other_role = read(r#"{"key": {"user": 11, "TimeZone": "UTC"}}"#);
        assert_ne!(first.hash, other_role.hash);
        assert_eq!(first.hash_without_role, other_role.hash_without_role);
        assert!(!other_role.reads_committed);
        let other_zone = read(r#"{"key": {"user": 10, "TimeZone": "CET"}}"#);
        assert_ne!(first.hash, other_zone.hash);
        assert_ne!(first.hash_without_role, other_zone.hash_without_role);
        assert!(!read(r#"{"key": {}, "temporary": true}"#).is_usable);
    }
}
