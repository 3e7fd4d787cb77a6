//! `[registrar]`: Path, Service-Route, outbound, GRUU, and the methods of contacts.

use proxy_core::msg::NameAddr;
use proxy_core::registrar::{OutboundMode, PathMode, RegistrarConfig};

use super::table::{Reader, Table};

/// Most values of Service-Route.
const MAX_SERVICE_ROUTES: usize = 8;

/// Reads and checks the section.
pub(super) fn read(root: &mut Table<'_, '_>, reader: &mut Reader<'_>) -> RegistrarConfig {
    let mut r = RegistrarConfig::default();
    let Some(mut t) = root.table(reader, "registrar") else { return r };
    let modes = [("silent", PathMode::Silent), ("lazy", PathMode::Lazy), ("strict", PathMode::Strict)];
    r.path = t.word(reader, "path", &modes).unwrap_or_default();
    let modes = [
        ("off", OutboundMode::Off),
        ("supported", OutboundMode::Supported),
        ("required", OutboundMode::Required),
    ];
    r.outbound = t.word(reader, "outbound", &modes).unwrap_or_default();
    if let Some(list) = t.strings(reader, "service_route") {
        if list.value.len() > MAX_SERVICE_ROUTES {
            let cure = format!("at most {MAX_SERVICE_ROUTES}");
            reader.fault(list.line, "too many values of service_route", cure);
        }
        for at in list.value.into_iter().take(MAX_SERVICE_ROUTES) {
            if is_loose_route(&at.value) {
                r.service_route.push(at.value);
            } else {
                let what = format!("service_route {:?} is no route", at.value);
                reader.fault(at.line, what, "write it as \"<sip:proxy.example.org;lr>\"");
            }
        }
    }
    let seconds = t.number(reader, "flow_timer_s", (0, 86_400), 0);
    r.flow_timer_s = u32::try_from(seconds).ok().filter(|s| *s > 0);
    r.gruu = t.boolean(reader, "gruu").is_some_and(|at| at.value);
    r.method_filter = t.boolean(reader, "method_filter").is_none_or(|at| at.value);
    r.refuse_content = t.boolean(reader, "refuse_content").is_some_and(|at| at.value);
    t.done(reader);
    r
}

/// RFC 3608 §6.1: what the client puts into Route.
fn is_loose_route(text: &str) -> bool {
    text.starts_with('<')
        && text.bytes().all(|b| (b' '..0x7f).contains(&b))
        && NameAddr::parse(text.as_bytes())
            .and_then(|route| route.parse_uri())
            .is_ok_and(|uri| uri.is_sip() && uri.is_loose_router())
}
