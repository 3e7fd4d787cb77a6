//! Questions to the DNS: the servers of `/etc/resolv.conf`, or those of the configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use proxy_core::dns::{Answer, Kind, Naptr, Question, Record, Srv};
use tokio::runtime::Handle;

/// Where the system says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often that file is looked at: DHCP clients rewrite it.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How often a question is repeated, and how long one attempt may take.
const ATTEMPTS: usize = 2;
/// How long the absence of a name is believed when the server does not say (RFC 2308 asks for a SOA).
const ABSENT_TTL: Duration = Duration::from_secs(60);

/// What is called, once, with the answer. It must not block.
pub type Done = Box<dyn FnOnce(Question, Answer) + Send>;

/// Asks, on a runtime of others.
pub struct Dns {
    handle: Handle,
    /// Empty: those of the system.
    servers: Vec<SocketAddr>,
    attempt: Duration,
    current: Mutex<Option<Current>>,
}

struct Current {
    resolver: Arc<TokioResolver>,
    written: Option<SystemTime>,
    looked: Instant,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Dns {
    /// `servers` instead of those of the system, if there are any. A question is given up after `patience`.
    #[must_use]
    pub fn new(handle: Handle, servers: Vec<SocketAddr>, patience: Duration) -> Self {
        let attempt = (patience / (ATTEMPTS as u32 + 1)).max(Duration::from_millis(100));
        Self { handle, servers, attempt, current: Mutex::new(None) }
    }

    /// Has a question answered. Never waits.
    pub fn ask(&self, question: Question, done: Done) {
        let Some(resolver) = self.resolver() else {
            done(question, Answer::Failed);
            return;
        };
        self.handle.spawn(async move {
            let answer = look_up(&resolver, &question).await;
            done(question, answer);
        });
    }

    /// The resolver for what the system says now.
    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(known) = current.as_mut() {
            if !self.servers.is_empty() || now.duration_since(known.looked) < LOOK_UP {
                return Some(Arc::clone(&known.resolver));
            }
            known.looked = now;
            if written(Path::new(RESOLV_CONF)) == known.written {
                return Some(Arc::clone(&known.resolver));
            }
        }
        let written = written(Path::new(RESOLV_CONF));
        match self.make() {
            Ok(resolver) => {
                let resolver = Arc::new(resolver);
                *current = Some(Current { resolver: Arc::clone(&resolver), written, looked: now });
                Some(resolver)
            }
            Err(e) => {
                tracing::warn!("names cannot be resolved: {e}; mend {RESOLV_CONF} or set dns.servers");
                // What worked before is better than nothing.
                current.as_ref().map(|known| Arc::clone(&known.resolver))
            }
        }
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        // Its sockets are made on the runtime.
        let _guard = self.handle.enter();
        let mut builder = if self.servers.is_empty() {
            Resolver::builder(TokioRuntimeProvider::default())?
        } else {
            let servers = self.servers.iter().map(|addr| {
                let by = |mut connection: ConnectionConfig| {
                    connection.port = addr.port();
                    connection
                };
                let both = vec![by(ConnectionConfig::udp()), by(ConnectionConfig::tcp())];
                NameServerConfig::new(addr.ip(), true, both)
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        self.tune(builder.options_mut());
        builder.build()
    }

    fn tune(&self, options: &mut ResolverOpts) {
        // The engines have a cache of their own, with the TTLs as they came.
        options.cache_size = 0;
        options.attempts = ATTEMPTS;
        options.timeout = self.attempt;
        options.try_tcp_on_error = true;
    }
}

fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

async fn look_up(resolver: &TokioResolver, question: &Question) -> Answer {
    // With its last dot, so that no search list is tried.
    let Ok(name) = Name::from_ascii(format!("{}.", question.name)) else { return Answer::Failed };
    let kind = match question.kind {
        Kind::Naptr => RecordType::NAPTR,
        Kind::Srv => RecordType::SRV,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
    };
    match resolver.lookup(name, kind).await {
        Ok(found) => {
            let mut ttl = u32::MAX;
            let mut records = Vec::new();
            for answer in found.answers() {
                // The shortest counts, also that of a CNAME on the way.
                ttl = ttl.min(answer.ttl);
                records.extend(record(question.kind, &answer.data));
            }
            if records.is_empty() {
                return Answer::Absent { ttl: ABSENT_TTL };
            }
            Answer::Records { records, ttl: Duration::from_secs(ttl.into()) }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let ttl = none.negative_ttl.map_or(ABSENT_TTL, |s| Duration::from_secs(s.into()));
            Answer::Absent { ttl }
        }
        Err(e) => {
            tracing::debug!("{:?} of {}: {e}", question.kind, question.name);
            Answer::Failed
        }
    }
}

fn record(kind: Kind, data: &RData) -> Option<Record> {
    let name = |name: &Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (kind, data) {
        (Kind::A, RData::A(a)) => Some(Record::Address(a.0.into())),
        (Kind::Aaaa, RData::AAAA(a)) => Some(Record::Address(a.0.into())),
        (Kind::Srv, RData::SRV(srv)) => Some(Record::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: name(&srv.target),
        })),
        (Kind::Naptr, RData::NAPTR(rule)) => Some(Record::Naptr(Naptr {
            order: rule.order,
            preference: rule.preference,
            flags: text(&rule.flags),
            service: text(&rule.services),
            replacement: name(&rule.replacement),
        })),
        _ => None,
    }
}
