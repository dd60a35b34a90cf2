//! Protected connections to the database, with certificates made here.

use std::path::PathBuf;

use kvasir_testkit::databases::{MariaDb, Postgres};
use kvasir_testkit::server::http_client;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::options;

/// An authority and the certificate it gave a server for `name`, all in PEM.
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

impl Certificates {
    fn new(name: &str) -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = server.signed_by(&key, &issuer).unwrap();
        Certificates {
            authority: issuer.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn files(&self) -> [(&str, &str); 2] {
        [("server.pem", &self.certificate), ("server.key", &self.key)]
    }
}

/// The authority as a file for `tls_ca=`.
fn authority_file(folder: &TempDir, name: &str, certificates: &Certificates) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, &certificates.authority).unwrap();
    path
}

async fn check_works(url: &str) {
    let server = options().arg("--store").arg(url).start().await;
    let put = http_client()
        .put(server.url("/kv/a"))
        .header("content-type", "application/json")
        .body(r#"{"value":1}"#);
    assert_eq!(put.send().await.unwrap().status(), 200, "{url}");
}

async fn check_refused(url: &str, code: i32, words: &[&str]) {
    let failure = options().arg("--store").arg(url).try_start().await;
    let failure = failure
        .err()
        .unwrap_or_else(|| panic!("it started with {url}"));
    assert_eq!(failure.status.code(), Some(code), "{url}: {failure}");
    for word in words {
        assert!(
            failure.stderr.contains(word),
            "{word:?} is not in: {failure}"
        );
    }
}

/// All ways to protect the connection to a server whose certificate names 127.0.0.1.
async fn check(url: &str, good: &Certificates) {
    let folder = TempDir::new().unwrap();
    let trusted = authority_file(&folder, "trusted.pem", good);
    let other = authority_file(&folder, "other.pem", &Certificates::new("127.0.0.1"));
    let trusted = trusted.display();
    check_works(&format!("{url}?tls=prefer")).await;
    check_works(&format!("{url}?tls=require")).await;
    check_works(&format!("{url}?tls=verify-ca&tls_ca={trusted}")).await;
    check_works(&format!("{url}?tls=verify-full&tls_ca={trusted}")).await;

    let words = ["cannot be protected", "check tls= and tls_ca="];
    // Known to no public authority; by another authority; for another name.
    check_refused(&format!("{url}?tls=verify-full"), 1, &words).await;
    let url_of_other = format!("{url}?tls=verify-ca&tls_ca={}", other.display());
    check_refused(&url_of_other, 1, &words).await;
    let by_name = url.replace("127.0.0.1", "localhost");
    check_works(&format!("{by_name}?tls=verify-ca&tls_ca={trusted}")).await;
    check_refused(
        &format!("{by_name}?tls=verify-full&tls_ca={trusted}"),
        1,
        &words,
    )
    .await;
    let missing = folder.path().join("missing.pem");
    let url_of_missing = format!("{url}?tls=verify-ca&tls_ca={}", missing.display());
    check_refused(&url_of_missing, 1, &["tls_ca"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_reached_over_tls_and_its_certificate_is_checked_as_asked() {
    let good = Certificates::new("127.0.0.1");
    let extra = ["--ssl-cert={dir}/server.pem", "--ssl-key={dir}/server.key"];
    let Some(database) = MariaDb::start_with(&extra, &good.files()).unwrap() else {
        return;
    };
    // Only over TLS, so that what works is known to have been protected.
    database
        .admin(
            "CREATE USER 'safe'@'%' IDENTIFIED BY 'kv' REQUIRE SSL; GRANT ALL ON *.* TO 'safe'@'%'",
        )
        .unwrap();
    let url = database.fresh_url().unwrap().replace("kv:kv@", "safe:kv@");
    check(&url, &good).await;
    check_refused(&format!("{url}?tls=off"), 4, &["Access denied"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_reached_over_tls_and_its_certificate_is_checked_as_asked() {
    let good = Certificates::new("127.0.0.1");
    let settings = [
        "ssl=on",
        "ssl_cert_file={dir}/server.pem",
        "ssl_key_file={dir}/server.key",
        "hba_file={dir}/rules.conf",
    ];
    // The tests' administrator comes unprotected.
    let rules = "host postgres kv 127.0.0.1/32 trust\nhostssl all kv 127.0.0.1/32 trust\n\
                 hostssl all kv ::1/128 trust\n";
    let [certificate, key] = good.files();
    let files = [certificate, key, ("rules.conf", rules)];
    let Some(database) = Postgres::start_with(&settings, &files).unwrap() else {
        return;
    };
    let url = database.fresh_url().unwrap();
    check(&url, &good).await;
    check_refused(&format!("{url}?tls=off"), 4, &["no encryption"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_offer_no_tls_are_refused_when_it_is_asked_for() {
    // Debian's MariaDB 10.11 offers none without a certificate, nor does PostgreSQL.
    let words = ["cannot be protected", "server does not support TLS"];
    if let Some(server) = kvasir_testkit::databases::Shared::mariadb() {
        check_refused(&format!("{}?tls=require", server.fresh_url()), 1, &words).await;
    }
    if let Some(server) = kvasir_testkit::databases::Shared::postgres() {
        check_refused(&format!("{}?tls=require", server.fresh_url()), 1, &words).await;
    }
}
