//! Options of the two drivers for an address: the one place that knows both.

use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::address::{Address, Server, Tls};

/// Prepared statements kept per connection: the fixed verbs and the usual shapes of reads.
const STATEMENTS: usize = 64;

/// How one server of the MySQL protocol is reached. The session stays as the server makes it:
/// proxies and TiDB accept it unchanged.
pub fn mysql_options(address: &Address, server: &Server) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .username(&address.user)
        .database(&address.database)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .set_names(false)
        .timezone(None)
        .ssl_mode(match address.tls {
            Tls::Off => MySqlSslMode::Disabled,
            Tls::Prefer => MySqlSslMode::Preferred,
            Tls::Require => MySqlSslMode::Required,
            Tls::VerifyCa => MySqlSslMode::VerifyCa,
            Tls::VerifyFull => MySqlSslMode::VerifyIdentity,
        })
        .enable_cleartext_plugin(address.cleartext)
        // Statements hold users' values.
        .disable_statement_logging();
    options = match server {
        Server::Tcp(host, port) => options.host(host).port(*port),
        Server::Unix(path) => options.socket(path).ssl_mode(MySqlSslMode::Disabled),
    };
    if let Some(password) = &address.password {
        options = options.password(password);
    }
    match &address.tls_ca {
        Some(ca) => options.ssl_ca(ca),
        None => options,
    }
}

/// How one server of the PostgreSQL protocol is reached.
pub fn postgres_options(address: &Address, server: &Server) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&address.user)
        .database(&address.database)
        .application_name("kvasir")
        .statement_cache_capacity(STATEMENTS)
        .ssl_mode(match address.tls {
            Tls::Off => PgSslMode::Disable,
            Tls::Prefer => PgSslMode::Prefer,
            Tls::Require => PgSslMode::Require,
            Tls::VerifyCa => PgSslMode::VerifyCa,
            Tls::VerifyFull => PgSslMode::VerifyFull,
        })
        // Statements hold users' values.
        .disable_statement_logging();
    options = match server {
        Server::Tcp(host, port) => options.host(host).port(*port),
        Server::Unix(path) => options.socket(path).ssl_mode(PgSslMode::Disable),
    };
    if let Some(password) = &address.password {
        options = options.password(password);
    }
    match &address.tls_ca {
        Some(ca) => options.ssl_root_cert(ca),
        None => options,
    }
}
