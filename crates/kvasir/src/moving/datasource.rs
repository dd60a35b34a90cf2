//! `KOPANO_KVS_DB_DRIVER` and `KOPANO_KVS_DB_DATASOURCE`, as the original reads them.
//!
//! SQLite: a path or a `file:` URI with driver options behind a `?`. MySQL: the DSN of the Go driver
//! in use there, `[user[:password]@][net[(address)]]/[dbname][?name=value&...]`, which is no URL:
//! nothing left of the last slash is percent-decoded.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Where the original keeps its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datasource {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    MySql(Dsn),
}

/// Why a data source cannot be used. The text names no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DatasourceError(String);

fn refuse<T>(text: impl Into<String>) -> Result<T, DatasourceError> {
    Err(DatasourceError(text.into()))
}

impl Datasource {
    /// Reads the two settings. Without a driver it is SQLite, as in the original.
    ///
    /// # Errors
    ///
    /// An unknown driver, an empty data source, or a DSN against the grammar.
    pub fn parse(driver: Option<&str>, datasource: &str) -> Result<Datasource, DatasourceError> {
        if datasource.is_empty() {
            return refuse("KOPANO_KVS_DB_DATASOURCE is empty: name a SQLite file or a MySQL DSN");
        }
        match driver {
            None | Some("" | "sqlite3") => parse_sqlite(datasource),
            Some("mysql") => Dsn::parse(datasource).map(Datasource::MySql),
            Some(other) => refuse(format!(
                "KOPANO_KVS_DB_DRIVER={other} is not known, expected sqlite3 or mysql"
            )),
        }
    }

    /// URL of Kvasir's own store in that database. Tables that are there already stay.
    ///
    /// # Errors
    ///
    /// If the DSN names no database.
    pub fn store_url(&self) -> Result<String, DatasourceError> {
        match self {
            Datasource::Sqlite(path) => Ok(format!("sqlite:{}?foreign=keep", path.display())),
            Datasource::MySql(dsn) => dsn.store_url(),
        }
    }

    /// What an operator should know about it, one sentence each.
    pub fn notes(&self) -> &[String] {
        match self {
            Datasource::Sqlite(_) => &[],
            Datasource::MySql(dsn) => &dsn.notes,
        }
    }
}

fn parse_sqlite(text: &str) -> Result<Datasource, DatasourceError> {
    let path = text.strip_prefix("file:").unwrap_or(text);
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" {
        return refuse("the SQLite data source names no file");
    }
    Ok(Datasource::Sqlite(path.into()))
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// Host and port.
    Tcp(String, u16),
    /// Path of a socket.
    Unix(String),
}

/// `tls=` of a DSN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DsnTls {
    /// `false`, the default.
    #[default]
    Off,
    /// `preferred`.
    Prefer,
    /// `skip-verify`.
    SkipVerify,
    /// `true`.
    Verify,
}

/// A parsed MySQL DSN.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    /// User name; may be empty.
    pub user: String,
    /// Password; may be empty.
    pub password: String,
    /// The server.
    pub net: Net,
    /// Database; may be empty, which parses but cannot be used.
    pub database: String,
    /// Protection of the connection.
    pub tls: DsnTls,
    /// Longest time to connect.
    pub timeout: Option<Duration>,
    /// Longest wait for an answer.
    pub read_timeout: Option<Duration>,
    /// Longest wait for sending.
    pub write_timeout: Option<Duration>,
    /// Whether the password may be sent as it is when the server asks for that.
    pub allow_cleartext_passwords: bool,
    /// Whether the older hashing of passwords may be used.
    pub allow_native_passwords: bool,
    /// What was accepted without having an effect here.
    pub notes: Vec<String>,
}

/// Shows no password.
impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn")
            .field("user", &self.user)
            .field("net", &self.net)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Port of MySQL.
const DEFAULT_PORT: u16 = 3306;

/// Parameters of the driver that mean nothing here.
const WITHOUT_EFFECT: [&str; 12] = [
    "charset",
    "collation",
    "maxAllowedPacket",
    "parseTime",
    "loc",
    "clientFoundRows",
    "columnsWithAlias",
    "interpolateParams",
    "multiStatements",
    "rejectReadOnly",
    "allowAllFiles",
    "serverPubKey",
];

/// Those of them whose value has to be a boolean.
const BOOLEANS: [&str; 7] = [
    "parseTime",
    "clientFoundRows",
    "columnsWithAlias",
    "interpolateParams",
    "multiStatements",
    "rejectReadOnly",
    "allowAllFiles",
];

impl Dsn {
    /// Reads a DSN.
    ///
    /// # Errors
    ///
    /// As the original's driver, in a sentence.
    pub fn parse(text: &str) -> Result<Dsn, DatasourceError> {
        // The last slash: password and socket path may hold others.
        let (left, right) = match text.rsplit_once('/') {
            Some(halves) => halves,
            None if text.is_empty() => ("", ""),
            None => return refuse("a MySQL DSN has a / before the database name"),
        };
        let (credentials, server) = left.rsplit_once('@').unwrap_or(("", left));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (database, parameters) = right.split_once('?').unwrap_or((right, ""));
        let mut dsn = Dsn {
            user: user.to_owned(),
            password: password.to_owned(),
            net: parse_net(server)?,
            database: database.to_owned(),
            tls: DsnTls::Off,
            timeout: None,
            read_timeout: None,
            write_timeout: None,
            allow_cleartext_passwords: false,
            allow_native_passwords: true,
            notes: Vec::new(),
        };
        for pair in parameters.split('&') {
            // A pair without = is skipped.
            if let Some((name, value)) = pair.split_once('=') {
                dsn.set(name, value)?;
            }
        }
        if !dsn.allow_native_passwords {
            dsn.notes.push(
                "allowNativePasswords=false of the DSN is not kept: the server chooses how the \
                 password is proved"
                    .into(),
            );
        }
        if dsn.write_timeout.is_some_and(|limit| !limit.is_zero()) && dsn.read_timeout.is_none() {
            dsn.notes.push(
                "writeTimeout of the DSN has no effect without readTimeout: sending and waiting \
                 are bounded together"
                    .into(),
            );
        }
        Ok(dsn)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), DatasourceError> {
        match name {
            "timeout" => self.timeout = Some(parse_duration(name, value)?),
            "readTimeout" => self.read_timeout = Some(parse_duration(name, value)?),
            "writeTimeout" => self.write_timeout = Some(parse_duration(name, value)?),
            "tls" => self.tls = parse_tls(value)?,
            "allowCleartextPasswords" => {
                self.allow_cleartext_passwords = parse_bool(name, value)?;
            }
            "allowNativePasswords" => self.allow_native_passwords = parse_bool(name, value)?,
            "allowOldPasswords" => {
                if parse_bool(name, value)? {
                    return refuse(
                        "allowOldPasswords is not supported: set a new password on the server",
                    );
                }
            }
            known if WITHOUT_EFFECT.contains(&known) => {
                if BOOLEANS.contains(&known) {
                    parse_bool(known, value)?;
                }
            }
            variable => {
                let note = format!("system variable {variable} of the DSN is not set by Kvasir");
                self.notes.push(note);
            }
        }
        Ok(())
    }

    fn store_url(&self) -> Result<String, DatasourceError> {
        if self.database.is_empty() {
            return refuse("the MySQL DSN names no database: write it behind the last /");
        }
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        // The original's driver sends an empty user name as it is; the server then knows nobody.
        let user = if self.user.is_empty() {
            "root"
        } else {
            &self.user
        };
        let mut url = format!("mysql://{}", encode(user));
        if !self.password.is_empty() {
            url += &format!(":{}", encode(&self.password));
        }
        let mut options = vec![format!(
            "tls={}",
            match self.tls {
                DsnTls::Off => "off",
                DsnTls::Prefer => "prefer",
                DsnTls::SkipVerify => "require",
                DsnTls::Verify => "verify-full",
            }
        )];
        match &self.net {
            Net::Tcp(host, port) if host.contains(':') => url += &format!("@[{host}]:{port}"),
            Net::Tcp(host, port) => url += &format!("@{host}:{port}"),
            Net::Unix(path) => {
                url += "@localhost";
                options.push(format!("socket={}", encode(path)));
            }
        }
        if self.allow_cleartext_passwords {
            options.push("cleartext=on".into());
        }
        if let Some(limit) = self.timeout.and_then(as_option) {
            options.push(format!("connect_timeout_ms={limit}"));
        }
        let answer = self.read_timeout.filter(|limit| !limit.is_zero());
        let statement =
            answer.map(|limit| limit.saturating_add(self.write_timeout.unwrap_or_default()));
        if let Some(limit) = statement.and_then(as_option) {
            options.push(format!("statement_timeout_ms={limit}"));
        }
        Ok(format!(
            "{url}/{}?{}",
            encode(&self.database),
            options.join("&")
        ))
    }
}

/// Longest time-out of a store's URL, in milliseconds; longer ones mean this.
const TIMEOUT_MS_MAX: u128 = 60 * 60 * 1000;

/// A time-out as the store's URL has it; `None` for 0, which means "no limit" to the driver.
fn as_option(limit: Duration) -> Option<u128> {
    (!limit.is_zero()).then(|| limit.as_millis().clamp(1, TIMEOUT_MS_MAX))
}

fn parse_net(server: &str) -> Result<Net, DatasourceError> {
    let (net, address) = match server.split_once('(') {
        None => (server, ""),
        Some((net, rest)) => match rest.strip_suffix(')') {
            Some(address) => (net, address),
            None if rest.contains(')') => {
                return refuse("something stands between ) and / in the DSN; is a / unescaped?");
            }
            None => return refuse("the closing ) of the address is missing in the DSN"),
        },
    };
    match (net, address) {
        ("" | "tcp", "") => Ok(Net::Tcp("127.0.0.1".into(), DEFAULT_PORT)),
        ("" | "tcp", address) => parse_tcp(address),
        ("unix", "") => Ok(Net::Unix("/tmp/mysql.sock".into())),
        ("unix", path) => Ok(Net::Unix(path.to_owned())),
        (other, "") => refuse(format!("the DSN names no address for the network {other}")),
        (other, _) => refuse(format!(
            "the network {other} of the DSN is not known, expected tcp or unix"
        )),
    }
}

fn parse_tcp(address: &str) -> Result<Net, DatasourceError> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => refuse(format!("{text:?} in the DSN is no port")),
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, DEFAULT_PORT),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(text) => (host, port(text)?),
                None => return refuse("after ] the DSN needs : and a port"),
            },
            None => return refuse("the closing ] of the address is missing in the DSN"),
        },
        None => match address.rsplit_once(':') {
            // More colons than one: an IPv6 address without a port.
            Some((host, _)) if host.contains(':') => (address, DEFAULT_PORT),
            Some((host, text)) => (host, port(text)?),
            None => (address, DEFAULT_PORT),
        },
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(Net::Tcp(host.to_owned(), port))
}

/// Booleans as the driver writes them.
fn parse_bool(name: &str, value: &str) -> Result<bool, DatasourceError> {
    match value {
        "1" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "false" | "FALSE" | "False" => Ok(false),
        _ => refuse(format!(
            "{name}={value} in the DSN is no boolean, write true or false"
        )),
    }
}

fn parse_tls(value: &str) -> Result<DsnTls, DatasourceError> {
    if let Ok(on) = parse_bool("tls", value) {
        return Ok(if on { DsnTls::Verify } else { DsnTls::Off });
    }
    let name = percent_decode_str(value).decode_utf8_lossy();
    match name.to_ascii_lowercase().as_str() {
        "skip-verify" => Ok(DsnTls::SkipVerify),
        "preferred" => Ok(DsnTls::Prefer),
        _ => refuse(format!(
            "tls={name} in the DSN is a registered name, and none is registered; \
             expected true, false, skip-verify or preferred"
        )),
    }
}

/// Durations as Go writes them: `500ms`, `30s`, `1m30s`, `1.5h`.
fn parse_duration(name: &str, value: &str) -> Result<Duration, DatasourceError> {
    let wrong = || {
        DatasourceError(format!(
            "{name}={value} in the DSN is no duration, write for example 30s"
        ))
    };
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = value.strip_prefix('+').unwrap_or(value);
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Net {
        Net::Tcp(host.into(), port)
    }

    fn dsn(text: &str) -> Dsn {
        Dsn::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// User, password, net, database.
    fn check(text: &str, user: &str, password: &str, net: Net, database: &str) {
        let dsn = dsn(text);
        assert_eq!(
            (dsn.user.as_str(), dsn.password.as_str()),
            (user, password),
            "{text}"
        );
        assert_eq!((dsn.net, dsn.database.as_str()), (net, database), "{text}");
    }

    #[test]
    fn the_last_slash_and_the_last_at_sign_divide_and_nothing_left_is_decoded() {
        let local = || tcp("127.0.0.1", 3306);
        check("u:p@tcp(h:1)/db", "u", "p", tcp("h", 1), "db");
        check("p@ss/wo:rd@/db", "p@ss/wo", "rd", local(), "db");
        check(
            "u:p@ss/wo:rd@tcp(h)/db",
            "u",
            "p@ss/wo:rd",
            tcp("h", 3306),
            "db",
        );
        check("u:%40@/db", "u", "%40", local(), "db");
        check(
            "u@unix(/run/a/b.sock)/db",
            "u",
            "",
            Net::Unix("/run/a/b.sock".into()),
            "db",
        );
        check("u:p@/db?a=b%2Fc", "u", "p", local(), "db");
        check("/", "", "", local(), "");
        check("", "", "", local(), "");
        check("/db", "", "", local(), "db");
        check("tcp/db", "", "", local(), "db");
        check("@/", "", "", local(), "");
        check(":@/", "", "", local(), "");
        check(
            "u:p@unix/db",
            "u",
            "p",
            Net::Unix("/tmp/mysql.sock".into()),
            "db",
        );
        check("u@(h:7)/db", "u", "", tcp("h", 7), "db");
        check(
            "u@tcp([de:ad:be:ef::ca:fe]:80)/db",
            "u",
            "",
            tcp("de:ad:be:ef::ca:fe", 80),
            "db",
        );
        check("u@tcp([::1])/db", "u", "", tcp("::1", 3306), "db");
        check("u@tcp(::1)/db", "u", "", tcp("::1", 3306), "db");
        check("u@tcp(:80)/db", "u", "", tcp("127.0.0.1", 80), "db");
    }

    #[test]
    fn a_dsn_against_the_grammar_is_refused_with_a_sentence() {
        for (text, expected) in [
            ("user:pass", "a / before the database name"),
            ("u@tcp(h/db", "closing ) of the address"),
            ("u@tcp(h)x/db", "between ) and /"),
            ("u@pipe/db", "no address for the network pipe"),
            ("u@pipe(x)/db", "network pipe of the DSN is not known"),
            ("u@tcp(h:x)/db", "is no port"),
            ("u@tcp(h:0)/db", "is no port"),
            ("u@tcp(h:65536)/db", "is no port"),
            ("u@tcp([::1)/db", "closing ]"),
            ("u@tcp([::1]3)/db", "after ]"),
            (
                "/db?parseTime=yes",
                "parseTime=yes in the DSN is no boolean",
            ),
            ("/db?timeout=30", "no duration"),
            ("/db?timeout=s", "no duration"),
            ("/db?timeout=", "no duration"),
            ("/db?timeout=1x", "no duration"),
            ("/db?timeout=-1s", "no duration"),
            ("/db?tls=mine", "registered name"),
            ("/db?allowOldPasswords=true", "not supported"),
        ] {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn parameters_are_read_as_the_driver_does() {
        let parsed = dsn(
            "u@/db?timeout=1m30s&readTimeout=500ms&writeTimeout=1.5h&tls=skip-verify&skipped\
             &allowCleartextPasswords=1&allowNativePasswords=FALSE&allowOldPasswords=0\
             &charset=utf8&parseTime=True&maxAllowedPacket=0&sql_mode=%27ANSI%27",
        );
        assert_eq!(parsed.timeout, Some(Duration::from_secs(90)));
        assert_eq!(parsed.read_timeout, Some(Duration::from_millis(500)));
        assert_eq!(parsed.write_timeout, Some(Duration::from_secs(5400)));
        assert_eq!(parsed.tls, DsnTls::SkipVerify);
        assert!(parsed.allow_cleartext_passwords && !parsed.allow_native_passwords);
        assert_eq!(parsed.notes.len(), 2);
        assert!(parsed.notes[0].contains("sql_mode"));
        assert!(parsed.notes[1].contains("allowNativePasswords"));

        for (text, tls) in [
            ("true", DsnTls::Verify),
            ("1", DsnTls::Verify),
            ("False", DsnTls::Off),
            ("preferred", DsnTls::Prefer),
            ("Skip-Verify", DsnTls::SkipVerify),
        ] {
            assert_eq!(dsn(&format!("/db?tls={text}")).tls, tls);
        }
        // Names are case-sensitive, so this is a system variable.
        assert_eq!(dsn("/db?Timeout=30s").timeout, None);
        assert_eq!(dsn("/db?timeout=0").timeout, Some(Duration::ZERO));
    }

    #[test]
    fn a_dsn_becomes_the_url_of_our_own_store() {
        let url = |text: &str| Datasource::parse(Some("mysql"), text).unwrap().store_url();
        assert_eq!(
            url("u:p@ss/w:d@tcp([::1]:3307)/k%v?tls=true").unwrap(),
            "mysql://u:p%40ss%2Fw%3Ad@[::1]:3307/k%25v?tls=verify-full"
        );
        assert_eq!(
            url("u@unix(/run/my.sock)/kv?allowCleartextPasswords=true").unwrap(),
            "mysql://u@localhost/kv?tls=off&socket=%2Frun%2Fmy%2Esock&cleartext=on"
        );
        let cases = [
            (
                "timeout=1m30s&readTimeout=500ms",
                "&connect_timeout_ms=90000&statement_timeout_ms=500",
            ),
            (
                "readTimeout=2s&writeTimeout=1s",
                "&statement_timeout_ms=3000",
            ),
            ("timeout=0&readTimeout=0", ""),
            ("timeout=1ns&writeTimeout=1s", "&connect_timeout_ms=1"),
            ("timeout=99h", "&connect_timeout_ms=3600000"),
        ];
        for (parameters, options) in cases {
            let expected = format!("mysql://u@127.0.0.1:3306/kv?tls=off{options}");
            assert_eq!(url(&format!("u@/kv?{parameters}")).unwrap(), expected);
        }
        assert_eq!(dsn("/db?writeTimeout=1s").notes.len(), 1);
        assert!(
            url("u@/")
                .unwrap_err()
                .to_string()
                .contains("names no database")
        );
    }

    #[test]
    fn sqlite_sources_are_paths_with_the_drivers_decorations_taken_off() {
        for (text, path) in [
            ("/var/lib/kvs.db", "/var/lib/kvs.db"),
            ("kvs.db?_busy_timeout=5000&cache=shared", "kvs.db"),
            ("file:kvs.db?mode=ro", "kvs.db"),
            ("file:/a/b.db", "/a/b.db"),
        ] {
            let expected = Datasource::Sqlite(path.into());
            assert_eq!(Datasource::parse(None, text).unwrap(), expected);
            assert_eq!(Datasource::parse(Some("sqlite3"), text).unwrap(), expected);
        }
        let url = Datasource::Sqlite("/a.db".into()).store_url().unwrap();
        assert_eq!(url, "sqlite:/a.db?foreign=keep");
        for text in ["", "file:", "?x=y", ":memory:"] {
            assert!(Datasource::parse(None, text).is_err(), "{text}");
        }
        let error = Datasource::parse(Some("postgres"), "x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("expected sqlite3 or mysql"), "{error}");
    }
}
