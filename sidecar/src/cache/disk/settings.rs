//! The section `[caches.ID.caching.disk]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::seal::{Purpose, Sealer};

/// Where answers are kept beyond a restart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSettings {
    /// A folder for this cache alone. It is made if it is missing.
    pub path: PathBuf,
    /// About the most that its file takes, in bytes. Half of it is for answers; pages that are free or written anew
    /// take the rest.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// A file with a key of 32 bytes, as they are or as 64 hexadecimal digits. With it, all that is written is
    /// encrypted.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Milliseconds a query waits for an answer that is on disk only, before it goes to the origin.
    #[serde(default = "wait_ms")]
    pub wait_ms: u64,
    /// Answers are given from disk alone: for tests of it.
    #[serde(skip)]
    #[doc(hidden)]
    pub only: bool,
    /// Each read takes so much longer: for tests of it.
    #[serde(skip)]
    #[doc(hidden)]
    pub slow: Duration,
}

const fn max_bytes() -> u64 {
    1 << 30
}

const fn wait_ms() -> u64 {
    20
}

impl DiskSettings {
    /// The usual ones for a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (max_bytes, wait_ms) = (max_bytes(), wait_ms());
        let (key_file, only, slow) = (None, false, Duration::ZERO);
        Self { path: path.into(), max_bytes, key_file, wait_ms, only, slow }
    }

    /// What is written passes through this. Errors say what is wrong with the key: without the key that was asked for,
    /// nothing is written.
    pub(super) fn sealer(&self) -> Result<Sealer, String> {
        let Some(file) = &self.key_file else { return Ok(Sealer::plain()) };
        Sealer::from_file(Purpose::CacheOnDisk, file)
            .map_err(|why| format!("caching.disk.key_file {}: {why}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bytes_or_digits_and_nothing_else() {
        let folder = std::env::temp_dir();
        let key_file = folder.join(format!("integratedb-key-{}", std::process::id()));
        let settings = DiskSettings { key_file: Some(key_file.clone()), ..DiskSettings::new("x") };
        let mut sealed = Vec::new();
        for text in
            [vec![0xab; 32], "ab".repeat(32).into_bytes(), format!("{}\n", "AB".repeat(32)).into()]
        {
            std::fs::write(&key_file, text).expect("the temp dir is writable");
            sealed.push(settings.sealer().expect("a key").seal(b"x", b"text"));
            let sealer = settings.sealer().expect("a key");
            assert!(sealed.iter().all(|sealed| sealer.open(b"x", sealed).is_some()));
        }
        for wrong in ["", "ab", &"ab".repeat(31), &"xy".repeat(32)] {
            std::fs::write(&key_file, wrong).expect("the temp dir is writable");
            assert!(settings.sealer().is_err(), "{wrong}");
        }
        std::fs::remove_file(key_file).expect("it was written above");
        assert!(settings.sealer().is_err(), "no file");
    }
}
