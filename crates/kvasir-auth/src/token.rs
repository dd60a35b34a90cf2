//! What a token looks like: `kvasir_<id>_<secret><check>`.
//!
//! | part | form |
//! | --- | --- |
//! | id | 16 hexadecimal digits, random; names the token in lists and logs, no secret |
//! | secret | 256 random bits as 52 characters of lower-case base32 (RFC 4648) |
//! | check | CRC-32 (IEEE) of all characters before it, big-endian, 7 characters of base32 |
//!
//! The prefix and the check let a scanner recognise a leaked token without asking anybody. Only the
//! SHA-256 hash of the secret is stored: a 256-bit secret cannot be guessed, so it needs no slow hash.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use kvasir_kv::Error;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How every token begins.
pub const TOKEN_PREFIX: &str = "kvasir_";

/// Length of a token, in characters.
pub const TOKEN_CHARS: usize = TOKEN_PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS;

const ID_CHARS: usize = 16;
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 52;
const CHECK_CHARS: usize = 7;

/// Names a token. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; ID_CHARS / 2]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not the id of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a token is 16 hexadecimal digits in lower case")]
pub struct ParseTokenIdError;

impl FromStr for TokenId {
    type Err = ParseTokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| ParseTokenIdError)?;
        Ok(TokenId(bytes.try_into().map_err(|_| ParseTokenIdError)?))
    }
}

/// A token as its holder has it. Cannot be printed; wiped when dropped.
pub struct Token {
    id: TokenId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl Token {
    /// A new token.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the operating system gives no random bytes.
    pub fn generate() -> kvasir_kv::Result<Token> {
        let mut id = [0; ID_CHARS / 2];
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        for bytes in [&mut id[..], &mut secret[..]] {
            getrandom::fill(bytes)
                .map_err(|error| Error::unavailable(format!("no random bytes: {error}")))?;
        }
        Ok(Token {
            id: TokenId(id),
            secret,
        })
    }

    /// The token written as `text`, or `None` if it is none: wrong form or wrong check.
    pub fn parse(text: &str) -> Option<Token> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if text.len() != TOKEN_CHARS || !text.bytes().all(is_plain) {
            return None;
        }
        let (body, check) = text.split_at(TOKEN_CHARS - CHECK_CHARS);
        if *check != *check_of(body) {
            return None;
        }
        let (id, secret) = body.strip_prefix(TOKEN_PREFIX)?.split_at(ID_CHARS);
        let secret = Zeroizing::new(secret.strip_prefix('_')?.to_ascii_uppercase());
        let decoded = Zeroizing::new(BASE32_NOPAD.decode(secret.as_bytes()).ok()?);
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        if decoded.len() != SECRET_BYTES {
            return None;
        }
        secret.copy_from_slice(&decoded);
        Some(Token {
            id: id.parse().ok()?,
            secret,
        })
    }

    /// The text to hand to the holder, once.
    pub fn reveal(&self) -> SecretString {
        let secret = Zeroizing::new(base32(&self.secret[..]));
        let body = Zeroizing::new(format!("{TOKEN_PREFIX}{}_{}", self.id, *secret));
        SecretString::from(format!("{}{}", *body, check_of(&body)))
    }

    /// Names the token.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(&self.secret[..]).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, <secret>)", self.id)
    }
}

fn check_of(body: &str) -> String {
    base32(&crc32fast::hash(body.as_bytes()).to_be_bytes())
}

fn base32(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

/// SHA-256 of a token's secret. Compared in constant time.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// A hash that belongs to no token, to spend the same time on unknown ones.
    pub(crate) const OF_NONE: TokenHash = TokenHash([0; 32]);

    /// The hash written as 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<TokenHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(TokenHash(bytes.try_into().ok()?))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Whether both are of one secret, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(<secret>)")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_token_is_read_back_as_itself() {
        let token = Token::generate().unwrap();
        let text = token.reveal();
        assert_eq!(text.expose_secret().len(), TOKEN_CHARS);
        let read = Token::parse(text.expose_secret()).unwrap();
        assert_eq!(read.id(), token.id());
        assert!(read.hash().matches(&token.hash()));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = Token::generate().unwrap().reveal();
        let text = text.expose_secret();
        for at in 0..text.len() {
            let mut altered = text.as_bytes().to_vec();
            altered[at] = if altered[at] == b'a' { b'b' } else { b'a' };
            assert!(Token::parse(std::str::from_utf8(&altered).unwrap()).is_none());
        }
        for altered in [
            "",
            "kvasir_",
            &text[1..],
            &text[..text.len() - 1],
            &text.to_uppercase(),
            &format!("{text}a"),
            &"ü".repeat(TOKEN_CHARS),
        ] {
            assert!(Token::parse(altered).is_none());
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let token = Token::generate().unwrap();
        let text = token.reveal();
        let secret = &text.expose_secret()[24..];
        for shown in [
            format!("{token:?}"),
            format!("{:?}", token.hash()),
            format!("{text:?}"),
        ] {
            assert!(!shown.contains(secret) && !shown.contains(&token.hash().to_hex()));
        }
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let id = TokenId([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        let secret = Zeroizing::new([0; SECRET_BYTES]);
        let text = Token { id, secret }.reveal();
        let body = format!("kvasir_0123456789abcdef_{}", "a".repeat(52));
        let check = base32(&crc32fast::hash(body.as_bytes()).to_be_bytes());
        assert_eq!(text.expose_secret(), format!("{body}{check}"));
    }

    /// Guesses of each kind.
    const GUESSES: usize = 10_000;

    /// Largest ratio of the two medians. Comparing byte by byte and stopping early would not show
    /// here either, as what is compared is a hash; this test is for who replaces that.
    const RATIO_MAX: f64 = 1.5;

    #[test]
    fn a_guess_that_is_nearly_right_takes_as_long_as_one_that_is_all_wrong() {
        let token = Token::generate().unwrap();
        let stored = token.hash();
        let guess = |right_bytes: usize| {
            let mut secret = token.secret.clone();
            secret[right_bytes..]
                .iter_mut()
                .for_each(|byte| *byte ^= 0x5a);
            let id = token.id;
            Token { id, secret }.reveal()
        };
        let (far, near) = (guess(0), guess(SECRET_BYTES - 1));
        let time = |guess: &SecretString| {
            let begun = std::time::Instant::now();
            let read = Token::parse(guess.expose_secret()).unwrap();
            assert!(!std::hint::black_box(read.hash().matches(&stored)));
            begun.elapsed()
        };
        // Taken in turns, so that whatever else the machine does falls on both alike.
        let (mut of_far, mut of_near): (Vec<_>, Vec<_>) =
            (0..GUESSES).map(|_| (time(&far), time(&near))).unzip();
        let median = |times: &mut Vec<std::time::Duration>| {
            times.sort();
            times[GUESSES / 2].as_secs_f64()
        };
        let ratio = median(&mut of_near) / median(&mut of_far);
        assert!((1.0 / RATIO_MAX..RATIO_MAX).contains(&ratio), "{ratio}");
    }
}
