//! `node.log` and `RELEVO_LOG`: what is logged.

/// What is logged unless somebody says otherwise.
pub const DEFAULT: &str = "info";
/// What mends a wrong one.
pub const CURE: &str = "use error, warn, info, debug, trace or off, or MODULE=LEVEL, separated by commas";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What would drown everything else: openraft warns at every heartbeat that a lost node does not answer, and tells all
/// that it does at `debug`. Who names it gets it.
const QUIET: [(&str, &str); 2] = [("openraft", "error"), ("mio", "warn")];

/// The filter that a text stands for.
///
/// # Errors
/// What is wrong with it.
pub fn filter(text: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for part in text.split(',').map(str::trim) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(format!("{level:?} is no level"));
        }
        let is_module = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'))
        };
        if part.split_once('=').is_some_and(|(name, _)| !is_module(name)) {
            return Err(format!("{part:?} names no module"));
        }
        parts.push(part.to_owned());
    }
    for (module, level) in QUIET {
        if !text.contains(module) {
            parts.push(format!("{module}={level}"));
        }
    }
    Ok(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_and_garbage_is_refused() {
        assert_eq!(filter("debug").as_deref(), Ok("debug,openraft=error,mio=warn"));
        assert_eq!(filter("info, openraft=debug").as_deref(), Ok("info,openraft=debug,mio=warn"));
        for bad in ["", "garbage", "agent=loud", "debug,", "=info", "a b=info"] {
            assert!(filter(bad).is_err(), "{bad:?}");
        }
    }
}
