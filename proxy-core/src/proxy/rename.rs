//! Other names in From and To of what goes on (Kamailio's `uac_replace_from`), and the old ones in what comes back. Tags
//! and other parameters of the header are those of the message.

use crate::msg::{Fault, Forward, HeaderName, Message, NameAddr, build_ack_for_failure};
use crate::state::Renamed;

/// New values of From and To.
#[derive(Debug, Default)]
pub(crate) struct Names {
    from: Option<String>,
    to: Option<String>,
}

impl Names {
    /// Of a request as it goes on.
    pub(crate) fn out(message: &Message<'_>, renamed: Option<&Renamed>) -> Self {
        let Some(renamed) = renamed else { return Self::default() };
        Self {
            from: renamed.from.as_ref().and_then(|swap| with_params(message.from(), &swap.goes)),
            to: renamed.to.as_ref().and_then(|swap| with_params(message.to(), &swap.goes)),
        }
    }

    /// Of the response to such a request, as it goes back.
    pub(crate) fn back(response: &Message<'_>, renamed: Option<&Renamed>) -> Self {
        let Some(renamed) = renamed else { return Self::default() };
        Self {
            from: renamed.from.as_ref().and_then(|swap| with_params(response.from(), &swap.came)),
            to: renamed.to.as_ref().and_then(|swap| with_params(response.to(), &swap.came)),
        }
    }

    /// Puts them in.
    pub(crate) fn put<'e>(&'e self, forward: &mut Forward<'_, '_, 'e>) {
        if let Some(value) = &self.from {
            forward.set_header(HeaderName::From.as_str(), value);
        }
        if let Some(value) = &self.to {
            forward.set_header(HeaderName::To.as_str(), value);
        }
    }
}

/// The ACK of a failure that is kept as it goes to the caller: to its sender it has the names that he knows (RFC 3261
/// §17.1.1.3).
pub(crate) fn ack_for_failure(
    invite: &[u8],
    response: &[u8],
    renamed: Option<&Renamed>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let names = match (renamed, Message::parse(response)) {
        (Some(renamed), Ok(message)) => Names::out(&message, Some(renamed)),
        _ => Names::default(),
    };
    if names.to.is_none() {
        return build_ack_for_failure(invite, response, out);
    }
    let Ok(message) = Message::parse(response) else { return build_ack_for_failure(invite, response, out) };
    let mut told = Vec::with_capacity(response.len());
    let mut forward = Forward::new(&message);
    names.put(&mut forward);
    forward.write(&mut told);
    build_ack_for_failure(invite, &told, out)
}

/// The value of From or To without its header parameters, as it came.
pub(crate) fn name_of(value: &NameAddr<'_>) -> Option<String> {
    let raw = std::str::from_utf8(value.raw).ok()?;
    let name = raw.get(..raw.len().checked_sub(value.params.as_str().len())?)?;
    // A folded line is one here.
    Some(name.trim().replace(|c: char| c.is_control(), " "))
}

fn with_params(value: Result<NameAddr<'_>, Fault>, name: &str) -> Option<String> {
    let params = value.ok()?.params.as_str().replace(|c: char| c.is_control(), " ");
    Some(format!("{name}{params}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_stands_before_the_header_parameters() {
        let name = |value: &str| name_of(&NameAddr::parse(value.as_bytes()).expect("a value"));
        assert_eq!(name("\"A;b\" <sip:a@h;x=y>;tag=1;z").as_deref(), Some("\"A;b\" <sip:a@h;x=y>"));
        assert_eq!(name("sip:a@h;tag=1").as_deref(), Some("sip:a@h"));
        assert_eq!(name(" <sip:a@h> ").as_deref(), Some("<sip:a@h>"));
        assert_eq!(name("\"A\"\r\n <sip:a@h>;tag=1").as_deref(), Some("\"A\"   <sip:a@h>"));
    }
}
