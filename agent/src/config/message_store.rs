//! `[message_store]`: MESSAGE for users without a phone.

use std::time::Duration;

use proxy_core::offline::MessageStoreConfig;
use proxy_core::state::limits::{MAX_MESSAGE_BYTES, MAX_MESSAGES, MAX_MESSAGES_PER_USER};

use super::table::{Reader, Table};

/// Bytes of a message that its headers may take beside the body.
const HEADER_BYTES: usize = 16 * 1024;

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> MessageStoreConfig {
    let mut m = MessageStoreConfig::default();
    let Some(mut t) = root.table(reader, "message_store") else { return m };
    m.enabled = t.boolean(reader, "enabled").is_some_and(|at| at.value);
    let most = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let per_user = (1, most(MAX_MESSAGES_PER_USER));
    let value = t.number(reader, "max_per_user", per_user, i64::from(m.max_per_user));
    m.max_per_user = u32::try_from(value).unwrap_or(m.max_per_user);
    let total = (1, i64::try_from(MAX_MESSAGES).unwrap_or(i64::MAX));
    m.max_total = t.number(reader, "max_total", total, m.max_total.cast_signed()).unsigned_abs();
    let seconds = t.number(reader, "expires_s", (60, 31_536_000), m.life.as_secs().cast_signed());
    m.life = Duration::from_secs(seconds.unsigned_abs());
    let bytes = (1, most(MAX_MESSAGE_BYTES - HEADER_BYTES));
    let value = t.number(reader, "max_bytes", bytes, most(m.max_bytes));
    m.max_bytes = usize::try_from(value).unwrap_or(m.max_bytes);
    t.done(reader);
    m
}
