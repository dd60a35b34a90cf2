//! What the signature of a request has to be. Pure functions over text.

use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::header::Authorization;

/// How much of a `POST` body is signed, in bytes. The signers' constant.
pub const SIGNED_BODY_BYTES: usize = 131_072;

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `https`
    Https,
    /// `http`
    Http,
}

impl Scheme {
    /// The name in URLs.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
        }
    }

    fn default_port(self) -> &'static str {
        match self {
            Scheme::Https => ":443",
            Scheme::Http => ":80",
        }
    }
}

/// The request as it may have looked to the client that signed it.
///
/// A proxy can hide the scheme and the host that the client used, and clients differ in whether
/// they sign a default port, so there are several candidates; one that fits is enough.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The method.
    pub method: &'a str,
    /// Schemes that the client may have used, the likeliest first.
    pub schemes: &'a [Scheme],
    /// Hosts that the client may have used, with their ports, the likeliest first.
    pub hosts: &'a [&'a str],
    /// Path and query exactly as in the request line.
    pub path_and_query: &'a str,
}

/// The key for one second: the secret is used as the text it is, and so is the result.
pub fn signing_key(client_secret: &str, timestamp: &str) -> String {
    hmac_base64(client_secret.as_bytes(), timestamp.as_bytes())
}

/// The hash of a body: of its first [`SIGNED_BODY_BYTES`] for a `POST` that has one, else empty.
pub fn content_hash(method: &str, body: &[u8]) -> String {
    if body.is_empty() || !method.eq_ignore_ascii_case("POST") {
        return String::new();
    }
    let signed = &body[..body.len().min(SIGNED_BODY_BYTES)];
    BASE64.encode(&Sha256::digest(signed))
}

/// The text that is signed: seven fields joined by tabs. The fifth holds the headers that both
/// sides agreed on; EdgeKV agrees on none.
pub fn data_to_sign(
    method: &str,
    scheme: Scheme,
    host: &str,
    path_and_query: &str,
    content_hash: &str,
    signed_header: &str,
) -> String {
    let method = method.to_ascii_uppercase();
    let scheme = scheme.name();
    format!("{method}\t{scheme}\t{host}\t{path_and_query}\t\t{content_hash}\t{signed_header}")
}

/// The signature of `data`.
pub fn sign(signing_key: &str, data: &str) -> String {
    hmac_base64(signing_key.as_bytes(), data.as_bytes())
}

/// Whether the header's signature is that of the request, made with this secret.
pub fn is_signed(
    authorization: &Authorization<'_>,
    client_secret: &str,
    target: &Target<'_>,
    body: &[u8],
) -> bool {
    let key = signing_key(client_secret, authorization.timestamp);
    let hash = content_hash(target.method, body);
    candidates(target).into_iter().any(|(scheme, host)| {
        let data = data_to_sign(
            target.method,
            scheme,
            &host,
            target.path_and_query,
            &hash,
            authorization.signed,
        );
        let same: Choice = sign(&key, &data)
            .as_bytes()
            .ct_eq(authorization.signature.as_bytes());
        bool::from(same)
    })
}

/// Every scheme and host that the client may have signed, without repetitions.
fn candidates(target: &Target<'_>) -> Vec<(Scheme, String)> {
    let mut found: Vec<(Scheme, String)> = Vec::new();
    for &scheme in target.schemes {
        for host in target.hosts {
            let with_port = format!("{host}{}", scheme.default_port());
            let (lower, lower_with_port) =
                (host.to_ascii_lowercase(), with_port.to_ascii_lowercase());
            for host in [(*host).to_owned(), with_port, lower, lower_with_port] {
                if !found
                    .iter()
                    .any(|known| known.0 == scheme && known.1 == host)
                {
                    found.push((scheme, host));
                }
            }
        }
    }
    found
}

fn hmac_base64(key: &[u8], data: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    BASE64.encode(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a3Zhc2lyLWxvY2FsLXNlY3JldA==";
    const TIMESTAMP: &str = "20260102T03:04:05+0000";
    const SIGNED: &str = "EG1-HMAC-SHA256 client_token=akab-kvasir-client;\
                          access_token=akab-kvasir-access;timestamp=20260102T03:04:05+0000;\
                          nonce=00000000-0000-4000-8000-000000000001;";

    fn check(method: &str, url: &str, body: &[u8], signature: &str) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let scheme = if scheme == "https" {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let header = format!("{SIGNED}signature={signature}");
        let authorization = Authorization::parse(&header).unwrap();
        let target = Target {
            method,
            schemes: &[scheme],
            hosts: &[host],
            path_and_query: path,
        };
        assert!(
            is_signed(&authorization, SECRET, &target, body),
            "{method} {url}"
        );
        assert!(
            !is_signed(&authorization, "b", &target, body),
            "{method} {url}"
        );
    }

    /// The vectors were made with the published Python signer.
    #[test]
    fn requests_are_signed_as_the_published_signers_do() {
        assert_eq!(
            signing_key(SECRET, TIMESTAMP),
            "TsCcjaNaQdqOMXa6p/JRqx9iZV3UCnagFcsq4qAFvtY="
        );
        check(
            "GET",
            "https://localhost:8443/edgekv/v1/networks/staging/namespaces?details=on",
            b"",
            "2KwT1P8k8CM431OBAAS3bmCSEPgM4h4gGkfJjhlD0K8=",
        );
        let body = br#"{"namespace": "marketing", "retentionInSeconds": "0"}"#;
        assert_eq!(
            content_hash("POST", body),
            "b8YYAHRpJ03RiunczLXUw2rV7YlgLPbTmSKZGjTLmi8="
        );
        check(
            "POST",
            "https://localhost:8443/edgekv/v1/networks/staging/namespaces",
            body,
            "zOLX8MJyd4VBLVWQEZPJZrghXNrf+dZt66WpU57fzKw=",
        );
        let item = "https://localhost:8443/edgekv/v1/networks/staging/namespaces/marketing/groups/countries/items/DE";
        for body in [&b""[..], b"any", b"other"] {
            check(
                "PUT",
                item,
                body,
                "LOdmHOxQETKGvVtrojO6tBYjqF6oXVtNdKyXGpX3ApU=",
            );
        }
    }

    #[test]
    fn only_the_first_128_kib_of_a_post_are_signed() {
        let long = vec![b'a'; SIGNED_BODY_BYTES + 1];
        assert_eq!(
            content_hash("POST", &long),
            "tE/7cvzCWWdr2ASV/vG0S4CMqPH/4bFwak15EbDjHxE="
        );
        assert_eq!(
            content_hash("POST", &long[..SIGNED_BODY_BYTES]),
            content_hash("POST", &long)
        );
        assert_ne!(
            content_hash("POST", &long[1..SIGNED_BODY_BYTES]),
            content_hash("POST", &long)
        );
        check(
            "POST",
            "http://127.0.0.1:8080/edgekv/v1/tokens",
            &long,
            "hmBplJfUMLDX9ytnm7OKJKLSQjiS9bGwnHpH0lUgYR4=",
        );
        for method in ["PUT", "GET", "DELETE", "PATCH"] {
            assert_eq!(content_hash(method, b"a"), "");
        }
        assert_eq!(content_hash("POST", b""), "");
    }

    #[test]
    fn default_ports_and_case_of_the_host_may_differ_from_the_header() {
        let signed_as = |host: &str, scheme: Scheme| {
            let data = data_to_sign("GET", scheme, host, "/", "", SIGNED);
            let signature = sign(&signing_key(SECRET, TIMESTAMP), &data);
            let header = format!("{SIGNED}signature={signature}");
            let authorization = Authorization::parse(&header).unwrap();
            let target = Target {
                method: "GET",
                schemes: &[Scheme::Https, Scheme::Http],
                hosts: &["KV.example"],
                path_and_query: "/",
            };
            is_signed(&authorization, SECRET, &target, b"")
        };
        for good in [
            "KV.example",
            "kv.example",
            "KV.example:443",
            "kv.example:443",
        ] {
            assert!(signed_as(good, Scheme::Https), "{good}");
        }
        assert!(signed_as("kv.example:80", Scheme::Http));
        for bad in ["kv.example:80", "kv.example:8443", "kv", "", "kv.example."] {
            assert!(!signed_as(bad, Scheme::Https), "{bad}");
        }
    }
}
