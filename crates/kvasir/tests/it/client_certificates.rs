//! Certificates of clients, and versions of TLS.

use kvasir_testkit::{DEADLINE, ServerOptions, TestServer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder, Identity, tls};

use crate::options;

/// An authority and what it signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Authority { pem, issuer }
    }

    fn client(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["client".to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(format!("{}{}", key.serialize_pem(), signed.pem()).as_bytes()).unwrap()
    }
}

async fn asked_of(authority: &Authority, options: ServerOptions) -> TestServer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    options
        .tls()
        .set("tls.client_ca", &file.to_string_lossy())
        .start()
        .await
}

fn trusting(server: &TestServer) -> ClientBuilder {
    let pem = std::fs::read(server.data().join("tls/ca.pem")).unwrap();
    let authority = Certificate::from_pem(&pem).unwrap();
    Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .tls_certs_only([authority])
}

async fn reaches(server: &TestServer, client: ClientBuilder) -> bool {
    let client = client.build().unwrap();
    client.get(server.tls_url("/healthz")).send().await.is_ok()
}

#[tokio::test]
async fn a_client_certificate_is_checked_if_one_is_shown() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = asked_of(&ours, options()).await;
    assert!(reaches(&server, trusting(&server)).await, "none is needed");
    assert!(reaches(&server, trusting(&server).identity(ours.client())).await);
    assert!(!reaches(&server, trusting(&server).identity(other.client())).await);
}

#[tokio::test]
async fn a_client_certificate_can_be_required() {
    let ours = Authority::new();
    let server = asked_of(&ours, options().set("tls.client_required", "true")).await;
    assert!(!reaches(&server, trusting(&server)).await);
    assert!(reaches(&server, trusting(&server).identity(ours.client())).await);

    let alone = options().tls().set("tls.client_required", "true");
    let failure = alone.try_start().await.unwrap_err();
    assert!(failure.stderr.contains("tls.client_ca"), "{failure}");
}

#[tokio::test]
async fn the_oldest_version_of_tls_can_be_raised() {
    let server = options().tls().set("tls.min_version", "1.3").start().await;
    let old = trusting(&server).max_tls_version(tls::Version::TLS_1_2);
    assert!(!reaches(&server, old).await);
    assert!(reaches(&server, trusting(&server)).await);
}
