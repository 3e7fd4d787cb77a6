//! The stored format does not change by accident. `RELEVO_GOLDEN=write` regenerates the files.

use raft_store::codec::{self, CodecError, Kind};

type Sample = (u64, Option<String>, Vec<u8>, Result<i32, bool>);

fn sample() -> Sample {
    (300, Some("sip:alice@lab.test".into()), vec![0, 1, 250, 251, 255], Ok(-70_000))
}

#[test]
fn encoding_equals_the_golden_file() {
    let bytes = codec::encode(Kind::Command, &sample()).expect("encode");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sample.bin");
    if std::env::var("RELEVO_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).expect("folder");
        std::fs::write(path, &bytes).expect("write");
    }
    let golden = std::fs::read(path).expect("golden file; RELEVO_GOLDEN=write makes it");
    assert_eq!(bytes, golden, "the format changed: raise FORMAT_VERSION and regenerate");
    assert_eq!(codec::decode::<Sample>(Kind::Command, &golden).expect("decode"), sample());
}

#[test]
fn wrong_version_kind_length_and_trailing_bytes_are_named() {
    let bytes = codec::encode(Kind::Vote, &7u64).expect("encode");
    let decode = |b: &[u8]| codec::decode::<u64>(Kind::Vote, b);
    assert!(matches!(decode(&bytes[..1]), Err(CodecError::Short { len: 1 })));
    assert!(matches!(decode(&[9, 1, 7]), Err(CodecError::Version { found: 9, .. })));
    let v = codec::FORMAT_VERSION;
    assert!(matches!(decode(&[v, 2, 7]), Err(CodecError::WrongKind { found: 2, .. })));
    assert!(matches!(decode(&[v, 1, 7, 0]), Err(CodecError::Trailing { extra: 1, .. })));
    // A length of 2^64 - 1 must fail, not allocate.
    let huge = [v, 1, 253, 255, 255, 255, 255, 255, 255, 255, 255];
    assert!(matches!(codec::decode::<Vec<u8>>(Kind::Vote, &huge), Err(CodecError::Decode { .. })));
}
