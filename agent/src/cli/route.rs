//! `relevo route explain`: which stage decides what about a request, and why.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Common;
use super::ask::show;
use crate::admin::Request;
use crate::admin::route::Ask;

/// How requests are routed.
#[derive(Debug, Subcommand)]
pub(super) enum Route {
    /// Say stage by stage what would become of REQUEST, and why; nothing is sent or changed
    Explain {
        /// Method and URI, such as 'INVITE sip:bob@example.org'
        #[arg(required = true, num_args = 1..=2)]
        request: Vec<String>,
        /// Who sends it: a SIP URI [default: somebody at the domain of the URI]
        #[arg(long, value_name = "URI")]
        from: Option<String>,
        /// Where it comes from: ADDRESS or ADDRESS:PORT [default: 192.0.2.1]
        #[arg(long, value_name = "ADDRESS")]
        source: Option<String>,
        /// A further header, 'Name: value'; may be given several times
        #[arg(long, value_name = "HEADER")]
        header: Vec<String>,
        /// As if this user (name@domain) had authenticated
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
    },
}

pub(super) fn route(common: &Common, command: &Route) -> ExitCode {
    match command {
        Route::Explain { request, from, source, header, user } => {
            let ask = Ask {
                request: request.join(" "),
                from: from.clone(),
                source: source.clone(),
                headers: header.clone(),
                user: user.clone(),
            };
            show(common, &Request::RouteExplain { ask }, human)
        }
    }
}

fn human(v: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut out = format!("{} from {}\n", text(&v["request"]), text(&v["source"]));
    let mut last = String::new();
    for step in v["steps"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let stage = text(&step["stage"]);
        let shown = if stage == last { "" } else { stage.as_str() };
        let (decision, why) = (text(&step["decision"]), text(&step["why"]));
        let line = format!("{shown:15} {decision}{}{why}", if why.is_empty() { "" } else { ": " });
        out += line.trim_end();
        out.push('\n');
        last = stage;
    }
    out
}
