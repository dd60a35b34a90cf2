//! Certificates over ACME, from `pebble`, the authority that others test with too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use kvasir_testkit::{DEADLINE, TestServer, eventually, skip};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Child;

use crate::options;

/// The name that certificates are asked for. Only the test's own resolver knows it.
const NAME: &str = "kv.example.org";

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

/// A running authority that resolves every name to this machine.
struct Pebble {
    folder: TempDir,
    directory: SocketAddr,
    management: SocketAddr,
    /// Where it looks for us.
    http: SocketAddr,
    tls: SocketAddr,
    _authority: Child,
    _resolver: Child,
}

impl Pebble {
    async fn start() -> Option<Pebble> {
        for program in ["pebble", "pebble-challtestsrv"] {
            let found = Command::new(program)
                .arg("-h")
                .stderr(Stdio::null())
                .output();
            if found.is_err() {
                skip("no pebble, the ACME authority for tests: certificates over ACME");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        certify_localhost(folder.path());
        let [directory, management, http, tls, dns] = std::array::from_fn(|_| free());
        let config = json!({"pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("cert.pem"),
            "privateKey": folder.path().join("key.pem"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = folder.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut resolver = tokio::process::Command::new("pebble-challtestsrv");
        resolver
            .args([
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-dns01",
                &dns.to_string(),
            ])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-management", &free().to_string()]);
        let mut authority = tokio::process::Command::new("pebble");
        authority
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", &dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1");
        let quiet = |command: &mut tokio::process::Command| {
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            command.kill_on_drop(true).spawn().unwrap()
        };
        let pebble = Pebble {
            _authority: quiet(&mut authority),
            _resolver: quiet(&mut resolver),
            folder,
            directory,
            management,
            http,
            tls,
        };
        eventually(DEADLINE, "the authority answers", async || {
            tokio::net::TcpStream::connect(directory).await.ok()
        })
        .await;
        Some(pebble)
    }

    /// A client that trusts what the authority issues, and nothing else.
    async fn client(&self) -> Client {
        let own = std::fs::read(self.folder.path().join("ca.pem")).unwrap();
        let own = Certificate::from_pem(&own).unwrap();
        let management = Client::builder()
            .no_proxy()
            .tls_certs_only([own])
            .build()
            .unwrap();
        let url = format!("https://localhost:{}/roots/0", self.management.port());
        let root = management
            .get(url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .pool_max_idle_per_host(0)
            .resolve(NAME, self.tls)
            .tls_certs_only([Certificate::from_pem(&root).unwrap()])
            .build()
            .unwrap()
    }

    async fn server(&self, challenge: &str, data: &Path) -> TestServer {
        let ca = self.folder.path().join("ca.pem");
        options()
            .data(data)
            .listen(self.http.to_string())
            .arg("--tls-listen")
            .arg(self.tls.to_string())
            .set("tls.acme.names", NAME)
            .set("tls.acme.contact", "mailto:ops@example.org")
            .set(
                "tls.acme.directory",
                &format!("https://localhost:{}/dir", self.directory.port()),
            )
            .set("tls.acme.directory_ca", &ca.to_string_lossy())
            .set("tls.acme.terms_agreed", "true")
            .set("tls.acme.challenge", challenge)
            .start()
            .await
    }

    async fn is_served(&self, client: &Client, server: &TestServer) {
        let url = format!("https://{NAME}:{}/healthz", self.tls.port());
        let served = eventually(DEADLINE, "the certificate is shown", async || {
            let answer = client.get(&url).send().await.ok()?;
            answer.text().await.ok()
        });
        tokio::select! {
            text = served => assert_eq!(text, "ok\n"),
            () = tokio::time::sleep(DEADLINE * 2) => panic!("{}", server.stderr()),
        }
    }
}

/// The certificate of the authority's own API, of an authority of its own.
fn certify_localhost(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), ca).unwrap();
    std::fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_certificate_is_issued_in_a_tls_handshake_kept_and_renewed() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let client = pebble.client().await;
    let data = pebble.folder.path().join("data");
    let mut server = pebble.server("tls-alpn-01", &data).await;
    pebble.is_served(&client, &server).await;
    let folder = data.join("tls/acme");
    let (account, certificate) = (folder.join("account.json"), folder.join("certificate.pem"));
    for file in [&account, &certificate] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    let (first_account, first) = (read(&account), read(&certificate));

    // What was issued is shown again at once after a restart, and not asked for again.
    server.restart().await;
    pebble.is_served(&client, &server).await;
    assert_eq!(
        (read(&account), read(&certificate)),
        (first_account.clone(), first)
    );

    // One that is about to end is replaced, with the same account.
    server.terminate().await;
    let ending = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let ending_pem = params.self_signed(&ending.signing_key).unwrap().pem();
    let text = format!("{ending_pem}{}", ending.signing_key.serialize_pem());
    std::fs::write(&certificate, &text).unwrap();
    let server = pebble.server("tls-alpn-01", &data).await;
    pebble.is_served(&client, &server).await;
    assert_ne!(read(&certificate), text);
    assert_eq!(read(&account), first_account);
}

#[tokio::test]
async fn a_certificate_is_issued_over_http() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let client = pebble.client().await;
    let server = pebble
        .server("http-01", &pebble.folder.path().join("data"))
        .await;
    pebble.is_served(&client, &server).await;
    // Afterwards there is nothing to see.
    let url = server.url("/.well-known/acme-challenge/any");
    let answer = kvasir_testkit::server::http_client()
        .get(url)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn without_the_authority_the_server_serves_with_its_own() {
    let server = options()
        .tls()
        .set("tls.acme.names", NAME)
        .set("tls.acme.directory", &format!("https://{}/dir", free()))
        .set("tls.acme.terms_agreed", "true")
        .start()
        .await;
    eventually(DEADLINE, "the failure is told", || {
        let is_told = server.stderr().contains("got no certificate over ACME");
        async move { is_told.then_some(()) }
    })
    .await;
    let own = std::fs::read(server.data().join("tls/ca.pem")).unwrap();
    let own = Certificate::from_pem(&own).unwrap();
    let client = Client::builder()
        .no_proxy()
        .tls_certs_only([own])
        .build()
        .unwrap();
    let answer = client.get(server.tls_url("/healthz")).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    for (setting, value) in [
        ("tls.acme.terms_agreed", "false"),
        ("tls.certificate", "/nowhere"),
    ] {
        let refused = options()
            .tls()
            .set("tls.acme.names", NAME)
            .set(setting, value)
            .try_start()
            .await;
        assert!(refused.unwrap_err().stderr.contains("tls."), "{setting}");
    }
}
