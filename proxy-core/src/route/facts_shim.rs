//! Shim.
use crate::engine::Engine;
use crate::msg::Uri;
use crate::route::passage::{Passage, Targets};
use crate::state::{CallFacts, account_text};

impl Engine {
    pub(crate) fn facts_of(&self, passage: &Passage<'_, '_>, _targets: &Targets) -> CallFacts {
        let message = passage.message;
        let from = message.from().ok().and_then(|f| Uri::parse(f.uri).ok());
        let dialled = Uri::parse(&passage.found.uri).ok();
        let caller = from.as_ref().filter(|f| self.settings.is_local(f, passage.flow.local)).and_then(|f| self.settings.config.aor(f, Some(passage.flow.local)));
        CallFacts {
            from_tag: account_text(message.from_tag().unwrap_or_default()),
            cseq: message.cseq().map_or(0, |c| c.number),
            src_user: from.and_then(|u| u.user.map(str::to_owned)).unwrap_or_default(),
            src_domain: from.map(|u| u.host.to_string()).unwrap_or_default(),
            src_ip: passage.flow.remote.ip(),
            dst_ouser: String::new(),
            dst_user: dialled.and_then(|u| u.user.map(str::to_owned)).unwrap_or_default(),
            dst_domain: dialled.map(|u| u.host.to_string()).unwrap_or_default(),
            caller,
            from_trunk: None,
            counted: Vec::new(),
        }
    }
}
