//! A node begins the cluster anew with the newest state that verifies, because a majority is in doubt: see
//! [`super::doubt`].

use std::sync::Arc;

use super::doubt::Begins;
use super::examine::examine;
use super::rebirth::Position;
use super::start::{NodeConfig, StartError};
use super::store::{Damage, Found, Opened, Store, StoreError};
use super::types::Member;

/// Makes a store from the newest state here, and puts it in the place of the present one. Where that fails, the present one
/// stays as it is, and this may be called again.
///
/// It takes as long as the state is large, and so has a thread of its own: the others must go on hearing this node.
///
/// # Errors
/// The disk, or less verifies than was expected.
pub(super) async fn begin(
    config: &NodeConfig,
    store: &Arc<Store>,
    damage: &Damage,
    begins: &Begins,
) -> Result<Opened, StartError> {
    let own = config.places.iter().find(|p| p.place == config.place).copied();
    let own = own.ok_or(StartError::Unlisted(config.place))?;
    let (first, of_thread, of_work) = (config.on_background_thread, store.clone(), *begins);
    let (done, made) = futures::channel::oneshot::channel();
    std::thread::Builder::new()
        .name("relevo-begin".into())
        .spawn(move || {
            if let Some(first) = first {
                first();
            }
            // Whoever asked may have gone with the whole node.
            drop(done.send(put_in_place(&of_thread, own.into(), &of_work)));
        })
        .map_err(StartError::Thread)?;
    let gone = |_| StartError::Thread(std::io::Error::other("the thread that makes a store has ended"));
    made.await.map_err(gone)??;
    if begins.by_operator {
        tracing::error!(
            last_entry = begins.last,
            "the cluster begins anew here by an operator's word: {}",
            begins.missing()
        );
    } else {
        tracing::error!(
            %damage,
            last_entry = begins.last,
            "a majority of the nodes is in doubt about what it acknowledged. The newest state that verifies is here, and the \
         cluster begins anew with it: {}",
            begins.missing()
        );
    }
    match store.open()? {
        Found::Whole(opened) => Ok(opened),
        Found::Damaged(damage) => Err(StoreError::Damaged(damage).into()),
        Found::Empty => Err(short(store, None, begins).into()),
    }
}

fn put_in_place(store: &Store, own: Member, begins: &Begins) -> Result<(), StoreError> {
    let root = store.data().join("store");
    let io = |why| StoreError::Io { path: root.clone(), why };
    let (report, newest) = examine(&root, store.durability(), true).map_err(io)?;
    let newest = newest.filter(|_| report.newest >= Some(begins.last));
    let newest = newest.ok_or_else(|| short(store, report.newest, begins))?;
    let beyond = begins.promised.map_or(newest.beyond, |promised| newest.beyond.max(promised));
    store.begin_from(&newest.state, Position { term: newest.term, index: beyond }, own)?;
    Ok(())
}

fn short(store: &Store, newest: Option<u64>, begins: &Begins) -> StoreError {
    let why = format!("it verifies up to {newest:?}, and entry {} was expected", begins.last);
    let why = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    StoreError::Io { path: store.data().join("store"), why }
}
