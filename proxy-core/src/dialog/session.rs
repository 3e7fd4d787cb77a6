//! Session timers as a proxy has them (RFC 4028 §8).
//!
//! | what passes | then |
//! |---|---|
//! | INVITE or UPDATE with a `Session-Expires` that is too small, of somebody who knows timers | 422 with Min-SE (§8.1) |
//! | INVITE that starts a call, without one | one is put in, where that is configured |
//! | 2xx with one | the dialog ends by then, unless it is refreshed |
//! | 2xx without one, and the request that went out had one | it is put in, if the caller knows timers: he refreshes (§8.2) |
//! | 2xx to a refresh without one | there is no timer any more |

use crate::engine::Engine;
use crate::msg::{Forward, HeaderName, Message, Method};
use crate::route::passage::{Passage, Step};
use crate::state::{Branch, SessionTimer};
use crate::time::WallTime;

/// Header name of what is put in.
const SESSION_EXPIRES: &str = "Session-Expires";

/// Seconds: the longest Min-SE (a day) that a timer of our own is put in for.
const MOST_S: u32 = 86_400;

/// The seconds of a `Session-Expires` or `Min-SE`.
fn seconds(message: &Message<'_>, name: HeaderName) -> Option<u32> {
    message.header_str(name)?.split(';').next()?.trim().parse().ok()
}

/// What the session timer of a dialog comes to with this 2xx.
pub(crate) fn timer_of(response: &Message<'_>, now: WallTime) -> Option<SessionTimer> {
    let interval_s = seconds(response, HeaderName::SessionExpires).filter(|s| *s > 0)?;
    let expires_at = WallTime(now.0.saturating_add(u64::from(interval_s) * 1000));
    Some(SessionTimer { interval_s, expires_at })
}

/// The 2xx for the caller, with the timer that the callee does not know of: the caller refreshes.
pub(crate) fn with_timer(request: &Message<'_>, branch: &Branch, response: Vec<u8>) -> Vec<u8> {
    let put_in =
        branch.headers.iter().find(|(name, _)| name == SESSION_EXPIRES).map(|(_, value)| value.as_str());
    let asked = put_in.or_else(|| request.header_str(HeaderName::SessionExpires));
    let Some(asked) = asked.and_then(|value| value.split(';').next()) else { return response };
    let Ok(message) = Message::parse(&response) else { return response };
    if message.has(HeaderName::SessionExpires) || !request.has_token(HeaderName::Supported, "timer") {
        return response;
    }
    let value = format!("{};refresher=uac", asked.trim());
    let mut forward = Forward::new(&message);
    forward.add_header(SESSION_EXPIRES, &value);
    forward.add_header("Require", "timer");
    let mut out = Vec::with_capacity(response.len() + 64);
    forward.write(&mut out);
    out
}

impl Engine {
    /// Looks at the session timer of a request that is on its way. `Some`: it has been answered.
    pub(crate) fn check_session_timer(&mut self, passage: &mut Passage<'_, '_>) -> Option<Step> {
        if !matches!(passage.method, Method::Invite | Method::Update) {
            return None;
        }
        let message = passage.message;
        let (min, default) =
            (self.settings.config.dialog.min_se_s, self.settings.config.dialog.session_expires_s);
        match seconds(message, HeaderName::SessionExpires) {
            Some(asked) if asked < min && message.has_token(HeaderName::Supported, "timer") => {
                let min = min.to_string();
                self.reject_with(passage.flow, message, 422, "", &[("Min-SE", &min)]);
                Some(Step::Answered)
            }
            None if default > 0
                && passage.method == Method::Invite
                && !passage.found.in_dialog
                && !message.has(HeaderName::SessionExpires) =>
            {
                // §8.1: not below the Min-SE that the request brings. With one that no call comes to, there is none.
                let least = seconds(message, HeaderName::MinSe).unwrap_or(0);
                if least <= MOST_S {
                    let value = default.max(least).to_string();
                    passage.found.headers.push((SESSION_EXPIRES.to_owned(), value));
                }
                None
            }
            _ => None,
        }
    }
}
