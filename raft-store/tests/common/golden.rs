//! Files that say how the stored formats look: a change of a type shows as other bytes.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Debug;
use std::path::PathBuf;

use raft_store::codec::{self, FORMAT_VERSION, Kind};
use raft_store::wire::Wire;

/// The golden files of a format version.
pub fn folder(version: u8) -> PathBuf {
    PathBuf::from(format!("{}/tests/golden/v{version}", env!("CARGO_MANIFEST_DIR")))
}

/// `value` has the bytes of the file of the version that it says it can be read from, and is read back from them.
/// `RELEVO_GOLDEN=write` makes the file where there is none: one that is there is never written again.
pub fn golden<T: Wire + PartialEq + Debug>(name: &str, kind: Kind, value: &T) {
    golden_since(value.since(), name, kind, value);
}

/// The same, for a value that first stood in the files of `version`.
pub fn golden_since<T: Wire + PartialEq + Debug>(version: u8, name: &str, kind: Kind, value: &T) {
    let golden = golden_bytes(version, name, kind, value);
    assert_eq!(&codec::decode::<T>(kind, &golden).expect("decode"), value);
}

/// The same, for a value that cannot be compared: read and written again it has the same bytes. Returns them.
pub fn golden_bytes<T: Wire>(version: u8, name: &str, kind: Kind, value: &T) -> Vec<u8> {
    assert!(value.since() <= version && version <= FORMAT_VERSION);
    let bytes = codec::encode(kind, value).expect("encode");
    let path = folder(version).join(format!("{name}.bin"));
    if !path.exists() && std::env::var("RELEVO_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(folder(version)).expect("folder");
        std::fs::write(&path, &bytes).expect("write");
    }
    let golden = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; RELEVO_GOLDEN=write makes it", path.display()));
    assert!(
        bytes == golden,
        "version {version} has other bytes for {name}: a number was used again, or something stands in the middle; \
         what is new has the next free number, and a newer format version where it is used"
    );
    let read = codec::decode::<T>(kind, &golden).expect("decode");
    assert_eq!(codec::encode(kind, &read).expect("encode"), golden);
    golden
}
