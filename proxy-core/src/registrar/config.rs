//! What the registrar takes, beyond RFC 3261.

/// What becomes of Path from a client that does not say that it knows it (RFC 3327; Kamailio's `path_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathMode {
    /// It is kept, and said back to nobody (0).
    Silent,
    /// It is kept, and said back to those who know it (1).
    #[default]
    Lazy,
    /// 420 with `Unsupported: path` (2).
    Strict,
}

/// Client-initiated connections (RFC 5626; Kamailio's `outbound_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutboundMode {
    /// Not known: 420 to who requires it.
    #[default]
    Off,
    /// For who supports it.
    Supported,
    /// 421 to who does not.
    Required,
}

/// Settings of the registrar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrarConfig {
    /// Path.
    pub path: PathMode,
    /// Values of Service-Route in the 200, in order (RFC 3608).
    pub service_route: Vec<String>,
    /// Outbound.
    pub outbound: OutboundMode,
    /// Seconds after which the server may take a silent flow for dead, told to clients with outbound (RFC 5626 §5.4).
    pub flow_timer_s: Option<u32>,
    /// GRUUs for clients that want them (RFC 5627).
    pub gruu: bool,
    /// Requests do not go to contacts that have not listed their method; 405 if there is no other (Kamailio's
    /// `method_filtering`).
    pub method_filter: bool,
    /// A REGISTER with a body that it does not call optional is refused with 415 (RFC 3261 §8.2.3): no body means anything
    /// here. Off, bodies are not looked at, as in Kamailio: there are phones that send one with each REGISTER.
    pub refuse_content: bool,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self {
            path: PathMode::Lazy,
            service_route: Vec::new(),
            outbound: OutboundMode::Off,
            flow_timer_s: None,
            gruu: false,
            method_filter: true,
            refuse_content: false,
        }
    }
}

impl RegistrarConfig {
    /// The option tags that a REGISTER may require, in the order in which they are listed.
    pub(crate) fn supported(&self) -> impl Iterator<Item = &'static str> {
        let outbound = (self.outbound != OutboundMode::Off).then_some("outbound");
        ["path"].into_iter().chain(outbound).chain(self.gruu.then_some("gruu"))
    }
}
