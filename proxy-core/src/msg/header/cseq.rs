//! CSeq, RFC 3261 §20.16.

use crate::msg::scan::{is_lws, is_token, number, trim};
use crate::msg::{Fault, HeaderName, MAX_CSEQ, Method};

/// Sequence number and method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    /// The method of the request that it numbers.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Reads a value; white space (folds included) parts its two halves.
    ///
    /// # Errors
    /// [`Fault::Bad`] CSeq.
    pub fn parse(value: &'a [u8]) -> Result<Self, Fault> {
        let bad = Fault::Bad(HeaderName::CSeq);
        let value = trim(value);
        let space = value.iter().position(|&b| is_lws(b)).ok_or(bad)?;
        let (digits, method) = value.split_at(space);
        let number = number(digits).filter(|n| *n <= MAX_CSEQ).ok_or(bad)?;
        let method = trim(method);
        if !is_token(method) {
            return Err(bad);
        }
        let method = std::str::from_utf8(method).map_err(|_| bad)?;
        Ok(Self { number, method: Method::from_token(method) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_up_to_2_31_are_read_and_larger_refused_rfc3261_8_1_1_5() {
        assert_eq!(CSeq::parse(b"0009\r\n  INVITE"), Ok(CSeq { number: 9, method: Method::Invite }));
        assert_eq!(CSeq::parse(b"2147483647 X").map(|c| c.number), Ok(MAX_CSEQ));
        for bad in [
            "2147483648 INVITE",
            "36893488147419103232 REGISTER",
            "-1 INVITE",
            "INVITE",
            "1",
            "1 IN VITE",
            "1  ",
        ] {
            assert!(CSeq::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
