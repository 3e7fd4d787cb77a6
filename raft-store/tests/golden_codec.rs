//! The frame, and the guard of the golden files.

#[path = "common/golden.rs"]
mod common;

use common::{folder, golden};
use minicbor::{CborLen, Decode, Encode};
use proxy_core::wire::Room;
use raft_store::codec::{self, CodecError, FORMAT_VERSION, Kind, READS};
use sha2::{Digest, Sha256};

/// One of each form.
#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
#[cbor(context_bound = "Room")]
struct Sample {
    #[n(0)]
    number: u64,
    #[n(1)]
    text: Option<String>,
    #[cbor(n(2), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[cbor(n(3), with = "proxy_core::wire::list", has_nil)]
    list: Vec<i32>,
    #[cbor(n(4), with = "proxy_core::wire::addr")]
    v4: std::net::SocketAddr,
    #[cbor(n(5), with = "proxy_core::wire::ip")]
    v6: std::net::IpAddr,
    #[cbor(n(6), with = "proxy_core::wire::change", has_nil)]
    change: Option<Option<bool>>,
    #[cbor(n(7), with = "proxy_core::wire::added", has_nil)]
    added: u32,
}

raft_store::tagged! { Sample; Bytes; }

#[derive(Debug, PartialEq, Encode, Decode, CborLen)]
#[cbor(context_bound = "Room", transparent)]
struct Bytes(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

fn sample() -> Sample {
    Sample {
        number: 300,
        text: Some("sip:alice@lab.test".into()),
        bytes: vec![0, 1, 250, 251, 255],
        list: vec![-70_000, 5],
        v4: "10.77.0.1:5060".parse().expect("address"),
        v6: "2001:db8::1".parse().expect("address"),
        change: Some(None),
        added: 7,
    }
}

#[test]
fn every_form_keeps_its_bytes() {
    golden("sample", Kind::Command, &sample());
}

#[test]
fn wrong_version_kind_length_and_trailing_bytes_are_named() {
    let bytes = codec::encode(Kind::Vote, &7u64).expect("encode");
    let decode = |b: &[u8]| codec::decode::<u64>(Kind::Vote, b);
    assert!(matches!(decode(&bytes[..1]), Err(CodecError::Short { len: 1 })));
    assert!(matches!(decode(&[99, 1, 7]), Err(CodecError::Version { found: 99 })));
    let old = decode(&[2, 1, 7]).expect_err("bincode, never released");
    assert!(old.to_string().contains("before the first release"), "{old}");
    let v = FORMAT_VERSION;
    assert!(matches!(decode(&[v, 2, 7]), Err(CodecError::WrongKind { found: 2, .. })));
    assert!(matches!(decode(&[v, 1, 7, 0]), Err(CodecError::Trailing { extra: 1, .. })));
    // A length of 2^64 - 1 must fail, not allocate.
    let huge = [v, 1, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255];
    assert!(matches!(codec::decode::<Bytes>(Kind::Vote, &huge), Err(CodecError::Decode { .. })));
}

fn is_asked(what: &str) -> bool {
    std::env::var("RELEVO_GOLDEN").is_ok_and(|v| v == what)
}

/// The list of a version's files is written with them, in one commit; `scripts/check-tree` looks at it as well.
#[test]
fn golden_files_are_as_they_were_when_their_version_was_made() {
    for version in READS {
        let folder = folder(version);
        // The newest one is open until the list is made.
        if version == FORMAT_VERSION && !folder.join("SHA256SUMS").exists() && !is_asked("sums") {
            continue;
        }
        let mut lines: Vec<String> = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "bin"))
            .map(|path| {
                let digest = Sha256::digest(std::fs::read(&path).expect("reads"));
                let name = path.file_name().expect("name").to_string_lossy().into_owned();
                let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                format!("{hex}  {name}")
            })
            .collect();
        lines.sort_by(|a, b| a[66..].cmp(&b[66..]));
        let path = folder.join("SHA256SUMS");
        if !path.exists() && is_asked("sums") {
            std::fs::write(&path, lines.join("\n") + "\n").expect("write");
        }
        let listed = std::fs::read_to_string(path).expect("the list; RELEVO_GOLDEN=sums makes it");
        assert_eq!(
            listed.lines().collect::<Vec<_>>(),
            lines,
            "the golden files of version {version} are never changed: what is new belongs to a new version"
        );
    }
}
