//! Files that say how the stored formats look: a change of a type shows as other bytes.

use std::fmt::Debug;

use raft_store::codec::{self, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `value` has the bytes of the file, and is read back from them. `RELEVO_GOLDEN=write` makes the file.
pub fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, kind: Kind, value: &T) {
    let bytes = codec::encode(kind, value).expect("encode");
    let path = format!("{}/tests/golden/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("RELEVO_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&path, &bytes).expect("write");
    }
    let golden = std::fs::read(&path).expect("golden file; RELEVO_GOLDEN=write makes it");
    assert!(
        bytes == golden,
        "the format of {name} changed: commands are append-only; else raise FORMAT_VERSION and regenerate"
    );
    assert_eq!(&codec::decode::<T>(kind, &golden).expect("decode"), value);
}
