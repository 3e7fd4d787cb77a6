//! The stateful proxy: response contexts (RFC 3261 §16.7), forking, and what a takeover rebuilds.
//!
//! | file | what |
//! |---|---|
//! | `call` | an INVITE: its server transaction, its branches, where it stands |
//! | `exchange` | any other request but ACK |
//! | `backend` | branches to backends: given up when those are dead, repeated with credentials |
//! | `best` | which response goes back when all branches are done |
//! | `build` | the copies of a request and the responses as they are sent |
//! | `cancel` | CANCEL from the caller and to the phones |
//! | `carried` | other names in subscriptions, which their own messages carry |
//! | `elsewhere` | a branch that goes on at another address of its target |
//! | `late` | what comes of copies that nobody waits for any more |
//! | `ended` | calls that nobody has answered, and that an operator ends |
//! | `invite` | what happens to a call until it is decided |
//! | `decide` | how a call is decided, and the verdicts on its proposals |
//! | `manage_branch` | each copy of an INVITE before it leaves |
//! | `manage_reply` | each response before it is passed on |
//! | `manage_failure` | what is tried when a round of branches has failed |
//! | `patience` | targets that say nothing |
//! | `plain` | what happens to an exchange |
//! | `takeover` | a call out of its replicated record |

mod backend;
pub(crate) mod best;
pub(crate) mod build;
pub(crate) mod call;
mod cancel;
pub(crate) mod carried;
mod decide;
mod elsewhere;
mod ended;
pub(crate) mod exchange;
mod invite;
mod late;
mod manage_branch;
pub(crate) mod manage_failure;
mod manage_reply;
mod patience;
mod plain;
pub(crate) mod rename;
mod takeover;
