//! Typed views of a message, made on demand.

use super::iter::{HeaderLines, ListItems, Values};
use super::scan::{is_lws, number};
use super::{CSeq, Fault, HeaderName, Message, Method, NameAddr, StartLine, Uri, Via};

impl<'a> Message<'a> {
    /// The datagram without leading line ends. Bytes behind the body may follow.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The first line.
    pub fn start_line(&self) -> StartLine<'a> {
        self.start
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    /// The method of a request; of a response, that of its CSeq, or `None` if that cannot be read.
    pub fn method(&self) -> Option<Method<'a>> {
        match self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => self.cseq().ok().map(|c| c.method),
        }
    }

    /// The status code of a response, 0 for one that cannot be read; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase of a response; empty for a request.
    pub fn reason(&self) -> &'a [u8] {
        match self.start {
            StartLine::Request { .. } => &[],
            StartLine::Response { reason, .. } => reason,
        }
    }

    /// The Request-URI as it came; empty for a response.
    pub fn request_uri_str(&self) -> &'a str {
        match self.start {
            StartLine::Request { uri, .. } => uri,
            StartLine::Response { .. } => "",
        }
    }

    /// The Request-URI.
    ///
    /// # Errors
    /// [`Fault::RequestUri`] when it cannot be read.
    pub fn request_uri(&self) -> Result<Uri<'a>, Fault> {
        Uri::parse(self.request_uri_str()).map_err(|_| Fault::RequestUri)
    }

    /// The body, cut to Content-Length.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// All header lines in order.
    pub fn header_lines(&self) -> HeaderLines<'_, 'a> {
        HeaderLines::new(self)
    }

    /// The value of the first header of that name, trimmed; folds inside are left. Never
    /// [`HeaderName::Other`]: use [`Message::header_named`].
    pub fn header(&self, name: HeaderName) -> Option<&'a [u8]> {
        let (_, slot) = self.first_slot(name)?;
        Some(self.value(&slot))
    }

    /// The same as text; `None` also when it is not UTF-8.
    pub fn header_str(&self, name: HeaderName) -> Option<&'a str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// The value of the first header with that name as written (any case).
    pub fn header_named(&self, name: &str) -> Option<&'a [u8]> {
        self.header_lines().find(|h| h.raw_name.eq_ignore_ascii_case(name.as_bytes())).map(|h| h.value)
    }

    /// Whether there is a header of that name.
    pub fn has(&self, name: HeaderName) -> bool {
        self.first_slot(name).is_some()
    }

    /// The values of all headers of that name, comma lists taken apart, in order.
    pub fn values(&self, name: HeaderName) -> Values<'_, 'a> {
        Values::new(self, name)
    }

    /// All Via values from the top.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'a>, Fault>> + '_ {
        self.values(HeaderName::Via).map(Via::parse)
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`Fault::Missing`] or [`Fault::Bad`] Via.
    pub fn top_via(&self) -> Result<Via<'a>, Fault> {
        let value = self.header(HeaderName::Via).ok_or(Fault::Missing(HeaderName::Via))?;
        Via::parse(ListItems::new(value).next().unwrap_or_default())
    }

    fn name_addr(&self, name: HeaderName) -> Result<NameAddr<'a>, Fault> {
        let value = self.header(name).ok_or(Fault::Missing(name))?;
        NameAddr::parse(value).map_err(|_| Fault::Bad(name))
    }

    fn name_addrs(&self, name: HeaderName) -> impl Iterator<Item = Result<NameAddr<'a>, Fault>> + '_ {
        self.values(name).map(move |v| NameAddr::parse(v).map_err(|_| Fault::Bad(name)))
    }

    /// The From header.
    ///
    /// # Errors
    /// [`Fault::Missing`] or [`Fault::Bad`] From.
    pub fn from(&self) -> Result<NameAddr<'a>, Fault> {
        self.name_addr(HeaderName::From)
    }

    /// The To header.
    ///
    /// # Errors
    /// [`Fault::Missing`] or [`Fault::Bad`] To.
    pub fn to(&self) -> Result<NameAddr<'a>, Fault> {
        self.name_addr(HeaderName::To)
    }

    /// The tag of From, if it has one (RFC 2543 clients need not).
    pub fn from_tag(&self) -> Option<&'a str> {
        self.from().ok()?.tag()
    }

    /// The tag of To: present in requests within a dialog.
    pub fn to_tag(&self) -> Option<&'a str> {
        self.to().ok()?.tag()
    }

    /// The Call-ID; `None` when it is missing, empty or not UTF-8.
    pub fn call_id(&self) -> Option<&'a str> {
        self.header_str(HeaderName::CallId).filter(|id| !id.is_empty())
    }

    /// The CSeq header.
    ///
    /// # Errors
    /// [`Fault::Missing`] or [`Fault::Bad`] CSeq.
    pub fn cseq(&self) -> Result<CSeq<'a>, Fault> {
        CSeq::parse(self.header(HeaderName::CSeq).ok_or(Fault::Missing(HeaderName::CSeq))?)
    }

    /// Max-Forwards, `None` when there is none (RFC 2543).
    ///
    /// # Errors
    /// [`Fault::Bad`] Max-Forwards when it is not a number of 0..=255 (§20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, Fault> {
        self.header(HeaderName::MaxForwards)
            .map(|v| number(v).and_then(|n| u8::try_from(n).ok()).ok_or(Fault::Bad(HeaderName::MaxForwards)))
            .transpose()
    }

    /// Expires in seconds, `None` when there is none.
    ///
    /// # Errors
    /// [`Fault::Bad`] Expires when it is not a number below 2^32 (§20.19).
    pub fn expires(&self) -> Result<Option<u32>, Fault> {
        self.header(HeaderName::Expires).map(|v| number(v).ok_or(Fault::Bad(HeaderName::Expires))).transpose()
    }

    /// Whether some Contact is `*` (§10.2.2). Whether it is also the only one: [`Message::contact_count`].
    pub fn has_contact_star(&self) -> bool {
        self.values(HeaderName::Contact).any(|v| v == b"*")
    }

    /// Number of Contact values, `*` included.
    pub fn contact_count(&self) -> usize {
        self.values(HeaderName::Contact).count()
    }

    /// All Contact values but `*`, in order.
    pub fn contacts(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Fault>> + '_ {
        self.values(HeaderName::Contact)
            .filter(|v| *v != b"*")
            .map(|v| NameAddr::parse(v).map_err(|_| Fault::Bad(HeaderName::Contact)))
    }

    /// All Route values from the top.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Fault>> + '_ {
        self.name_addrs(HeaderName::Route)
    }

    /// All Record-Route values from the top.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Fault>> + '_ {
        self.name_addrs(HeaderName::RecordRoute)
    }

    /// All Path values from the top (RFC 3327).
    pub fn paths(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Fault>> + '_ {
        self.name_addrs(HeaderName::Path)
    }

    /// The tokens of a list such as Require, Proxy-Require, Supported, Unsupported or Allow. One that is not UTF-8 is
    /// given as an empty text, which no one supports.
    pub fn tokens(&self, name: HeaderName) -> impl Iterator<Item = &'a str> + '_ {
        self.values(name).map(|v| std::str::from_utf8(v).unwrap_or_default())
    }

    /// Whether the list header `name` holds the token `tag` (case-insensitive).
    pub fn has_token(&self, name: HeaderName, tag: &str) -> bool {
        self.tokens(name).any(|t| t.eq_ignore_ascii_case(tag))
    }

    /// Whether the Call-ID is one word: not empty and without white space.
    pub(crate) fn call_id_is_word(&self) -> bool {
        self.call_id().is_some_and(|id| !id.bytes().any(is_lws))
    }
}
