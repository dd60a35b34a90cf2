//! The URL of a database: which servers, which database, who, and how.
//!
//! `mysql://user:password@host1:3306,host2:3306/database?option=value`, and the same with
//! `postgres://`. User, password and database are percent-decoded. Unknown options are refused.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;

/// Most servers in one URL. A cluster has 3 to 9; more is a mistake.
pub const SERVERS_MAX: usize = 32;

/// Which protocol the servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MariaDB, MySQL, Galera Cluster; also TiDB.
    MySql,
    /// PostgreSQL; also CockroachDB and YugabyteDB.
    Postgres,
}

impl Protocol {
    /// The scheme of the URL, also the metric label.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::MySql => "mysql",
            Protocol::Postgres => "postgres",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Protocol::MySql => 3306,
            Protocol::Postgres => 5432,
        }
    }
}

/// One database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of a Unix socket (for PostgreSQL its folder).
    Unix(PathBuf),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Server::Tcp(host, port) => write!(f, "{host}:{port}"),
            Server::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the connection to the database is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// If the server offers it; its certificate is not checked. The default.
    Prefer,
    /// Always; the certificate is not checked.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority for this very host.
    VerifyFull,
}

/// A parsed URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// What the servers speak.
    pub protocol: Protocol,
    /// The servers, in the order in which writes use them.
    pub servers: Vec<Server>,
    /// The servers in the order in which reads use them, nearest first.
    pub read_servers: Vec<Server>,
    /// User name.
    pub user: String,
    /// Password; `None` to send none.
    pub password: Option<String>,
    /// Database on the servers.
    pub database: String,
    /// Protection of the connection.
    pub tls: Tls,
    /// PEM file with the authorities to trust, instead of the public ones.
    pub tls_ca: Option<PathBuf>,
    /// Number of the space: stores with different numbers can share one database.
    pub space: u32,
    /// Most connections for reads; one more is used for writes.
    pub connections: usize,
    /// Whether a scan holds one snapshot for all its pages. For copies: a slow reader then keeps
    /// old rows on the database.
    pub snapshot_scans: bool,
    /// Whether a MySQL server may be sent the password as it is, if it asks for that.
    pub cleartext: bool,
    /// Longest time to connect to one server; `None` for the usual 2 s.
    pub connect_timeout: Option<Duration>,
    /// Longest wait for the answer to one statement; `None` for the bounds of each kind of work.
    pub statement_timeout: Option<Duration>,
}

/// Shows no password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The URL without password and options, for messages.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        write!(
            f,
            "{}://{}@{}/{}",
            self.protocol.name(),
            self.user,
            servers.join(","),
            self.database
        )
    }
}

/// The URL of a database cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

fn refuse<T>(text: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(text.into()))
}

/// Connections for reads unless the URL says otherwise: enough to keep a database of a few cores
/// busy, few enough for ten Kvasir nodes on MariaDB's default of 151.
pub const CONNECTIONS_DEFAULT: usize = 12;

/// The most connections for reads that may be asked for.
pub const CONNECTIONS_MAX: usize = 256;

/// The longest time-out that may be asked for, in milliseconds: an hour.
pub const TIMEOUT_MS_MAX: u64 = 60 * 60 * 1000;

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong and, without quoting secrets, what is expected.
    pub fn parse(url: &str) -> Result<Address, AddressError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse("expected mysql://user:password@host/database or postgres://…");
        };
        let protocol = match scheme {
            "mysql" | "mariadb" => Protocol::MySql,
            "postgres" | "postgresql" => Protocol::Postgres,
            other => {
                return refuse(format!(
                    "unknown scheme {other}, expected mysql or postgres"
                ));
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some((authority, database)) = rest.split_once('/') else {
            return refuse("the database name is missing: end the address with /NAME");
        };
        let database = percent_decode(database)?;
        if database.is_empty() || database.contains('/') {
            return refuse("the database name is missing: end the address with /NAME");
        }
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (credentials, hosts),
            None => {
                return refuse("the user name is missing: write user:password@ before the host");
            }
        };
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(percent_decode(password)?)),
            None => (credentials, None),
        };
        let user = percent_decode(user)?;
        if user.is_empty() {
            return refuse("the user name is missing: write user:password@ before the host");
        }
        let servers = parse_servers(hosts, protocol)?;
        let mut address = Address {
            protocol,
            read_servers: servers.clone(),
            servers,
            user,
            password,
            database,
            tls: Tls::Prefer,
            tls_ca: None,
            space: 1,
            connections: CONNECTIONS_DEFAULT,
            snapshot_scans: false,
            cleartext: false,
            connect_timeout: None,
            statement_timeout: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.set_option(name, &percent_decode(value)?)?;
        }
        Ok(address)
    }

    fn set_option(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        match name {
            "tls" => {
                self.tls = match value {
                    "off" => Tls::Off,
                    "prefer" => Tls::Prefer,
                    "require" => Tls::Require,
                    "verify-ca" => Tls::VerifyCa,
                    "verify-full" => Tls::VerifyFull,
                    _ => {
                        return refuse(format!(
                            "tls={value}: expected off, prefer, require, verify-ca or verify-full"
                        ));
                    }
                }
            }
            "tls_ca" => self.tls_ca = Some(value.into()),
            "reads" => self.read_servers = parse_servers(value, self.protocol)?,
            "socket" => {
                self.servers = vec![Server::Unix(value.into())];
                self.read_servers = self.servers.clone();
            }
            "space" => match value.parse() {
                Ok(space) if (1..=i32::MAX as u32).contains(&space) => self.space = space,
                _ => return refuse(format!("space={value}: expected 1 to {}", i32::MAX)),
            },
            "connections" => match value.parse() {
                Ok(count) if (1..=CONNECTIONS_MAX).contains(&count) => self.connections = count,
                _ => {
                    return refuse(format!(
                        "connections={value}: expected 1 to {CONNECTIONS_MAX}"
                    ));
                }
            },
            "scan" => match value {
                "page" => self.snapshot_scans = false,
                "snapshot" => self.snapshot_scans = true,
                _ => return refuse(format!("scan={value}: expected page or snapshot")),
            },
            "cleartext" => match value {
                "on" => self.cleartext = true,
                "off" => self.cleartext = false,
                _ => return refuse(format!("cleartext={value}: expected on or off")),
            },
            "connect_timeout_ms" => self.connect_timeout = Some(parse_timeout(name, value)?),
            "statement_timeout_ms" => self.statement_timeout = Some(parse_timeout(name, value)?),
            _ => {
                return refuse(format!(
                    "unknown option {name}, expected tls, tls_ca, reads, socket, space, \
                     connections, scan, cleartext, connect_timeout_ms or statement_timeout_ms"
                ));
            }
        }
        Ok(())
    }
}

fn parse_timeout(name: &str, value: &str) -> Result<Duration, AddressError> {
    match value.parse() {
        Ok(milliseconds) if (1..=TIMEOUT_MS_MAX).contains(&milliseconds) => {
            Ok(Duration::from_millis(milliseconds))
        }
        _ => refuse(format!("{name}={value}: expected 1 to {TIMEOUT_MS_MAX}")),
    }
}

fn parse_servers(hosts: &str, protocol: Protocol) -> Result<Vec<Server>, AddressError> {
    let servers = hosts
        .split(',')
        .map(|host| parse_server(host, protocol))
        .collect::<Result<Vec<_>, _>>()?;
    if servers.len() > SERVERS_MAX {
        return refuse(format!(
            "{} servers, over the limit of {SERVERS_MAX}",
            servers.len()
        ));
    }
    Ok(servers)
}

fn parse_server(text: &str, protocol: Protocol) -> Result<Server, AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return refuse(format!("{text}: the closing ] is missing"));
        };
        (host, rest.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return refuse(format!("{text}: write an IPv6 address in [ ]"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return refuse("a host name is missing");
    }
    let port = match port {
        None => protocol.default_port(),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return refuse(format!("{port}: expected a port from 1 to 65535")),
        },
    };
    Ok(Server::Tcp(percent_decode(host)?, port))
}

fn percent_decode(text: &str) -> Result<String, AddressError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let byte = tail
            .get(..2)
            .and_then(|hex| HEXLOWER_PERMISSIVE.decode(hex).ok());
        let Some(byte) = byte else {
            return refuse("a % in the address needs two hexadecimal digits, write %25 for itself");
        };
        out.extend(byte);
        rest = &tail[2..];
    }
    String::from_utf8(out).or_else(|_| refuse("the address is not UTF-8 after percent-decoding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Server {
        Server::Tcp(host.into(), port)
    }

    #[test]
    fn servers_user_password_and_database_are_read() {
        let address = Address::parse("mysql://u%40x:p%2F@h1:3307,h2,[::1]:5/db%20x").unwrap();
        assert_eq!(address.protocol, Protocol::MySql);
        assert_eq!(address.user, "u@x");
        assert_eq!(address.password.as_deref(), Some("p/"));
        assert_eq!(address.database, "db x");
        let expected = [tcp("h1", 3307), tcp("h2", 3306), tcp("::1", 5)];
        assert_eq!(address.servers, expected);
        assert_eq!(address.read_servers, expected);
        assert_eq!(
            address.to_string(),
            "mysql://u@x@h1:3307,h2:3306,[::1]:5/db x"
        );
        assert!(!format!("{address:?}").contains("p/"));

        let address = Address::parse("postgres://kv@db/kv").unwrap();
        assert_eq!(address.servers, [tcp("db", 5432)]);
        assert_eq!(address.password, None);
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let url = "postgresql://u:p@a,b/d?tls=verify-full&tls_ca=%2Fca.pem&reads=b,a&space=7\
                   &connections=3&scan=snapshot&cleartext=on&connect_timeout_ms=1&statement_timeout_ms=3600000";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.tls, Tls::VerifyFull);
        assert_eq!(address.tls_ca, Some("/ca.pem".into()));
        assert_eq!(address.read_servers, [tcp("b", 5432), tcp("a", 5432)]);
        assert_eq!((address.space, address.connections), (7, 3));
        assert!(address.snapshot_scans && address.cleartext);
        assert_eq!(address.connect_timeout, Some(Duration::from_millis(1)));
        assert_eq!(address.statement_timeout, Some(Duration::from_secs(3_600)));

        for (url, expected) in [
            ("mysql:x", "expected mysql://"),
            ("redis://a/b", "unknown scheme redis"),
            ("mysql://u:p@h", "database name is missing"),
            ("mysql://u:p@h/", "database name is missing"),
            ("mysql://h/db", "user name is missing"),
            ("mysql://:p@h/db", "user name is missing"),
            ("mysql://u@/db", "host name is missing"),
            ("mysql://u@a,,b/db", "host name is missing"),
            ("mysql://u@::1/db", "IPv6 address in [ ]"),
            ("mysql://u@[::1/db", "closing ]"),
            ("mysql://u@h:0/db", "port from 1"),
            ("mysql://u@h:65536/db", "port from 1"),
            ("mysql://u:%zz@h/db", "two hexadecimal digits"),
            ("mysql://u:%ff@h/db", "not UTF-8"),
            ("mysql://u@h/db?tls=yes", "tls=yes"),
            ("mysql://u@h/db?space=0", "space=0"),
            ("mysql://u@h/db?connections=0", "connections=0"),
            ("mysql://u@h/db?connections=257", "connections=257"),
            ("mysql://u@h/db?scan=all", "scan=all"),
            ("mysql://u@h/db?cleartext=1", "cleartext=1"),
            (
                "mysql://u@h/db?connect_timeout_ms=0",
                "connect_timeout_ms=0",
            ),
            (
                "mysql://u@h/db?statement_timeout_ms=3600001",
                "expected 1 to 3600000",
            ),
            ("mysql://u@h/db?ssl=1", "unknown option ssl"),
        ] {
            let text = Address::parse(url).unwrap_err().to_string();
            assert!(text.contains(expected), "{url}: {text}");
        }
        let many = vec!["h"; SERVERS_MAX + 1].join(",");
        assert!(Address::parse(&format!("mysql://u@{many}/d")).is_err());
        let most = vec!["h"; SERVERS_MAX].join(",");
        assert!(Address::parse(&format!("mysql://u@{most}/d")).is_ok());
    }
}
