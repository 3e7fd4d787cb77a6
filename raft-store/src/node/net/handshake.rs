//! Both ends prove that they know the cluster key before anything else is read.
//!
//! ```text
//! client  HELLO  = magic, nonce, cluster hash, own place, wanted place, lane, versions
//! server  ANSWER = magic, nonce, versions; HMAC(key, "server" ‖ HELLO ‖ ANSWER)
//! client  HMAC(key, "client" ‖ HELLO ‖ ANSWER)
//! ```
//! The frames' keys are HMACs over the same, so that they differ on every connection. Each end says which format
//! versions it reads; two that have none in common refuse each other in words.

use std::io;

use hmac::{Hmac, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Credentials;
use super::frame::Seal;
use crate::command::Versions;
use crate::node::client::Lane;
use crate::node::types::Place;

const MAGIC: &[u8; 8] = b"RELEVO\x00\x02";
const NONCE: usize = 32;
const VERSIONS: usize = 2;
const HELLO: usize = 8 + NONCE + 8 + 2 + 2 + 1 + VERSIONS;
const ANSWER: usize = 8 + NONCE + VERSIONS;
const PROOF: usize = 32;

/// The two directions of an authenticated connection.
pub struct Seals {
    pub outgoing: Seal,
    pub incoming: Seal,
}

fn cluster_hash(name: &str) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&Sha256::digest(name.as_bytes())[..8]);
    out
}

fn nonce() -> io::Result<[u8; NONCE]> {
    let mut nonce = [0; NONCE];
    SysRng.try_fill_bytes(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

fn mac(key: &[u8; 32], label: &str, hello: &[u8], answer: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length will do"));
    for part in [label.as_bytes(), hello, answer] {
        mac.update(part);
    }
    mac
}

fn seal(key: &[u8; 32], label: &str, hello: &[u8], answer: &[u8]) -> Seal {
    let mut out = [0; 16];
    out.copy_from_slice(&mac(key, label, hello, answer).finalize().into_bytes()[..16]);
    Seal::new(out)
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.into())
}

/// Both read a version that the other one writes, or an error that says what to do.
fn meet(ours: Versions, theirs: Versions) -> io::Result<()> {
    if ours.meet(theirs) {
        return Ok(());
    }
    let cure = if theirs.last < ours.first {
        "upgrade that node, by the releases in between"
    } else {
        "upgrade this node, by the releases in between"
    };
    Err(refused(format!("it reads format version {theirs}, this node {ours}: {cure}")))
}

/// The client's part, towards `wanted`.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    who: &Credentials,
    wanted: Place,
    lane: Lane,
) -> io::Result<Seals> {
    let mut hello = Vec::with_capacity(HELLO);
    hello.extend_from_slice(MAGIC);
    hello.extend_from_slice(&nonce()?);
    hello.extend_from_slice(&cluster_hash(&who.cluster));
    hello.extend_from_slice(&who.place.to_le_bytes());
    hello.extend_from_slice(&wanted.to_le_bytes());
    hello.push(match lane {
        Lane::Control => 0,
        Lane::Bulk => 1,
        Lane::Probe => 2,
    });
    hello.extend_from_slice(&[who.reads.first, who.reads.last]);
    stream.write_all(&hello).await?;
    let mut answer = [0; ANSWER + PROOF];
    stream.read_exact(&mut answer).await.map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => {
            refused("the node closed the connection: are cluster name and election_max_ms the same there?")
        }
        _ => e,
    })?;
    let (answer, proof) = answer.split_at(ANSWER);
    if answer[..8] != *MAGIC {
        return Err(refused("what listens there is not this version of relevo"));
    }
    if mac(&who.key, "server", &hello, answer).verify_slice(proof).is_err() {
        // A proof that cannot fit: who merely hung up would not be told from one whose patience was over. It is said here,
        // too, if it is not heard there.
        stream.write_all(&[0; PROOF]).await.ok();
        return Err(refused("the node does not know this cluster's key: compare cluster.key on both"));
    }
    stream.write_all(&mac(&who.key, "client", &hello, answer).finalize().into_bytes()).await?;
    let theirs = Versions { first: answer[8 + NONCE], last: answer[8 + NONCE + 1] };
    who.heard.note(wanted, theirs);
    meet(who.reads, theirs)?;
    Ok(Seals {
        outgoing: seal(&who.key, "to server", &hello, answer),
        incoming: seal(&who.key, "to client", &hello, answer),
    })
}

/// The server's part; says who has connected.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    who: &Credentials,
) -> io::Result<(Place, Lane, Seals)> {
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello).await?;
    let (magic, rest) = hello.split_at(8);
    let (_, rest) = rest.split_at(NONCE);
    if magic != MAGIC {
        return Err(refused("it does not speak this version of relevo"));
    }
    if rest[..8] != cluster_hash(&who.cluster) {
        return Err(refused(
            "it belongs to a cluster of another name, or with another lease (election_max_ms)",
        ));
    }
    let from = Place::from_le_bytes([rest[8], rest[9]]);
    let wanted = Place::from_le_bytes([rest[10], rest[11]]);
    if wanted != who.place {
        return Err(refused(format!("node {from} looks for node {wanted} here: compare the addresses")));
    }
    let lane = match rest[12] {
        0 => Lane::Control,
        2 => Lane::Probe,
        _ => Lane::Bulk,
    };
    let theirs = Versions { first: rest[13], last: rest[14] };
    let answer = [&MAGIC[..], &nonce()?, &[who.reads.first, who.reads.last]].concat();
    let proof = mac(&who.key, "server", &hello, &answer).finalize().into_bytes();
    stream.write_all(&[&answer[..], &proof].concat()).await?;
    let mut proof = [0; PROOF];
    stream.read_exact(&mut proof).await?;
    if mac(&who.key, "client", &hello, &answer).verify_slice(&proof).is_err() {
        return Err(refused("it does not know this cluster's key: compare cluster.key on both"));
    }
    who.heard.note(from, theirs);
    meet(who.reads, theirs)?;
    let seals = Seals {
        outgoing: seal(&who.key, "to client", &hello, &answer),
        incoming: seal(&who.key, "to server", &hello, &answer),
    };
    Ok((from, lane, seals))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(place: Place, key: u8, cluster: &str) -> Credentials {
        Credentials::new(cluster, [key; 32], place)
    }

    async fn meet(
        client: Credentials,
        server: Credentials,
        wanted: Place,
    ) -> (io::Result<Seals>, io::Result<Place>) {
        let (mut a, mut b) = tokio::io::duplex(1024);
        let accept = async {
            let result = accept(&mut b, &server).await.map(|(place, _, _)| place);
            drop(b);
            result
        };
        let connect = async {
            let result = connect(&mut a, &client, wanted, Lane::Control).await;
            drop(a);
            result
        };
        tokio::join!(connect, accept)
    }

    #[tokio::test]
    async fn two_nodes_of_a_cluster_know_each_other() {
        let (client, server) = meet(who(1, 7, "lab"), who(2, 7, "lab"), 2).await;
        assert!(client.is_ok());
        assert_eq!(server.expect("accepted"), 1);
    }

    #[tokio::test]
    async fn a_wrong_key_a_wrong_cluster_and_a_wrong_address_are_told_apart() {
        let (client, server) = meet(who(1, 7, "lab"), who(2, 8, "lab"), 2).await;
        assert!(client.err().expect("refused").to_string().contains("cluster's key"));
        assert!(server.expect_err("refused").to_string().contains("cluster.key"));
        let (client, server) = meet(who(1, 7, "lab"), who(2, 7, "other"), 2).await;
        assert!(client.err().expect("refused").to_string().contains("cluster name"));
        assert!(server.expect_err("refused").to_string().contains("another name"));
        let (_, server) = meet(who(1, 7, "lab"), who(2, 7, "lab"), 3).await;
        assert!(server.expect_err("refused").to_string().contains("looks for node 3"));
    }

    #[tokio::test]
    async fn each_node_learns_which_versions_the_other_one_reads() {
        let (a, mut b) = (who(1, 7, "lab"), who(2, 7, "lab"));
        b.reads.last += 1;
        let (client, server) = meet(a.clone(), b.clone(), 2).await;
        assert!(client.is_ok() && server.is_ok());
        assert_eq!((a.heard.of(2), b.heard.of(1)), (Some(b.reads), Some(a.reads)));
    }

    #[tokio::test]
    async fn nodes_without_a_version_in_common_refuse_each_other_in_words() {
        let (a, mut b) = (who(1, 7, "lab"), who(2, 7, "lab"));
        b.reads = Versions { first: a.reads.last + 1, last: a.reads.last + 2 };
        let (client, server) = meet(a, b, 2).await;
        let (client, server) = (client.err().expect("refused"), server.expect_err("refused"));
        assert!(client.to_string().contains("upgrade this node"), "{client}");
        assert!(server.to_string().contains("upgrade that node"), "{server}");
        for why in [client, server] {
            assert_eq!(why.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[tokio::test]
    async fn a_node_that_hangs_up_in_the_midst_of_it_is_not_said_to_have_another_key() {
        let (mut a, mut b) = tokio::io::duplex(1024);
        let mut hello = [0; HELLO];
        let (magic, rest) = hello.split_at_mut(8);
        magic.copy_from_slice(MAGIC);
        rest[NONCE..NONCE + 8].copy_from_slice(&cluster_hash("lab"));
        rest[NONCE + 8..NONCE + 12].copy_from_slice(&[1, 0, 2, 0]);
        a.write_all(&hello).await.expect("sent");
        drop(a);
        let why = accept(&mut b, &who(2, 7, "lab")).await.map(|_| ()).expect_err("not accepted");
        assert_ne!(why.kind(), io::ErrorKind::PermissionDenied, "{why}");
    }

    #[tokio::test]
    async fn what_an_eavesdropper_heard_opens_no_second_connection() {
        // The server's nonce is new each time, so that a recorded proof does not fit.
        let key = [7; 32];
        let hello = [1; HELLO];
        let proof = mac(&key, "client", &hello, &[1; ANSWER]).finalize().into_bytes();
        assert!(mac(&key, "client", &hello, &[2; ANSWER]).verify_slice(&proof).is_err());
    }
}
