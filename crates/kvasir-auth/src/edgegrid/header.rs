//! The grammar of the `Authorization` header.

use kvasir_kv::UnixMillis;

use super::Refusal;

/// The authentication scheme.
pub const SCHEME: &str = "EG1-HMAC-SHA256";

/// Longest header value, in bytes. Real ones have about 250.
pub const HEADER_BYTES_MAX: usize = 2048;

/// A parsed header:
///
/// ```text
/// EG1-HMAC-SHA256 client_token=C;access_token=A;timestamp=T;nonce=N;signature=S
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Names the client.
    pub client_token: &'a str,
    /// Belongs to the client token.
    pub access_token: &'a str,
    /// When the request was signed, as text; see [`timestamp`].
    pub timestamp: &'a str,
    /// Any text that the client never uses again.
    pub nonce: &'a str,
    /// The signature, base64.
    pub signature: &'a str,
    /// What of the header is signed: all up to and including the `;` behind the nonce.
    pub signed: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads a header value. Every signer writes the fields in this one order, and the signature
    /// covers the text, so no other order is accepted.
    ///
    /// # Errors
    ///
    /// [`Refusal::MissingHeader`] for another scheme, [`Refusal::MalformedHeader`] for everything
    /// else that is not exactly the grammar.
    pub fn parse(value: &'a str) -> Result<Authorization<'a>, Refusal> {
        let rest = value.strip_prefix(SCHEME).ok_or(Refusal::MissingHeader)?;
        let fields = match rest.as_bytes().first() {
            // The scheme alone, or with one space.
            None => return Err(Refusal::MalformedHeader),
            Some(b' ') => &rest[1..],
            // A longer word: another scheme.
            Some(_) => return Err(Refusal::MissingHeader),
        };
        Authorization::fields(value, fields).ok_or(Refusal::MalformedHeader)
    }

    fn fields(value: &'a str, fields: &'a str) -> Option<Authorization<'a>> {
        let is_plain = fields.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if value.len() > HEADER_BYTES_MAX || !is_plain {
            return None;
        }
        let (client_token, rest) = field(fields, "client_token=")?;
        let (access_token, rest) = field(rest, "access_token=")?;
        let (timestamp, rest) = field(rest, "timestamp=")?;
        let (nonce, rest) = field(rest, "nonce=")?;
        let signature = rest.strip_prefix("signature=")?;
        if signature.is_empty() || signature.contains(';') {
            return None;
        }
        Some(Authorization {
            client_token,
            access_token,
            timestamp,
            nonce,
            signature,
            signed: &value[..value.len() - rest.len()],
        })
    }
}

/// The value of a field closed by `;`, and what follows it.
fn field<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (value, rest) = text.strip_prefix(name)?.split_once(';')?;
    (!value.is_empty()).then_some((value, rest))
}

/// The moment of a timestamp `yyyyMMddTHH:mm:ss+0000`; `None` for every other form and for days
/// and times that do not exist.
pub fn timestamp(text: &str) -> Option<UnixMillis> {
    let has_form = text.len() == 22
        && text
            .bytes()
            .zip(b"dddddddd'dd:dd:dd+0000")
            .all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                b'\'' => byte == b'T',
                other => byte == *other,
            });
    if !has_form {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i16>().ok();
    let small = |from: usize| text[from..from + 2].parse::<i8>().ok();
    let moment = jiff::civil::DateTime::new(
        number(0, 4)?,
        small(4)?,
        small(6)?,
        small(9)?,
        small(12)?,
        small(15)?,
        0,
    )
    .ok()?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(UnixMillis(moment.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "EG1-HMAC-SHA256 client_token=c;access_token=a;\
                        timestamp=20260102T03:04:05+0000;nonce=n;signature=s";

    #[test]
    fn a_header_is_taken_apart() {
        let header = Authorization::parse(GOOD).unwrap();
        assert_eq!(header.client_token, "c");
        assert_eq!(header.access_token, "a");
        assert_eq!(header.timestamp, "20260102T03:04:05+0000");
        assert_eq!(header.nonce, "n");
        assert_eq!(header.signature, "s");
        assert_eq!(header.signed, GOOD.strip_suffix("signature=s").unwrap());
    }

    #[test]
    fn a_nonce_may_hold_anything_but_a_semicolon() {
        let odd = GOOD.replace("nonce=n;", "nonce=a b=c,\"d\";");
        assert_eq!(Authorization::parse(&odd).unwrap().nonce, "a b=c,\"d\"");
    }

    #[test]
    fn headers_up_to_the_limit_are_read() {
        let padded = |bytes: usize| {
            GOOD.replace(
                "nonce=n",
                &format!("nonce={}", "n".repeat(bytes - GOOD.len() + 1)),
            )
        };
        assert!(Authorization::parse(&padded(HEADER_BYTES_MAX)).is_ok());
        assert_eq!(
            Authorization::parse(&padded(HEADER_BYTES_MAX + 1)),
            Err(Refusal::MalformedHeader)
        );
    }

    #[test]
    fn timestamps_have_one_form() {
        let at = |text| timestamp(text).map(|at| at.0);
        assert_eq!(at("20260102T03:04:05+0000"), Some(1_767_323_045_000));
        assert_eq!(at("19700101T00:00:00+0000"), Some(0));
        for bad in [
            "2026-01-02T03:04:05+0000",
            "20260102T03:04:05Z",
            "20260102T03:04:05+0100",
            "20260102T030405+0000",
            "20260102t03:04:05+0000",
            "20260102 03:04:05+0000",
            "20260132T03:04:05+0000",
            "20260230T03:04:05+0000",
            "20260102T24:04:05+0000",
            "20260102T03:04:60+0000",
            "20260102T03:04:05+0000 ",
            "1767323045",
            "",
            "２0260102T03:04:05+0000",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
