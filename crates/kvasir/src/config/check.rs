//! What settings have to hold together: contradictions, files that are not there, weak secrets, and
//! what `server.mode = "production"` refuses.
//!
//! [`Config::check`] is strict and is what `kvasir config check` and a reload ask. A server in
//! development starts in spite of a weak secret.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::server::Mode;
use super::{Config, ConfigError, Layers, Origin};

/// Shortest secret that signs session tokens, in bytes: the length of what HMAC-SHA-256 makes
/// (RFC 7518, 3.2).
const JWT_SECRET_BYTES_MIN: usize = 32;

/// Shortest site key, in bytes.
const SITE_KEY_BYTES_MIN: usize = 8;

/// The bits of a file's mode that let everybody read it.
const READABLE_BY_ALL: u32 = 0o004;

impl Config {
    /// Refuses what would not work, or not as it is meant.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and where.
    pub fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        self.check_strength(layers)?;
        self.check_start(layers)
    }

    /// The part of [`Config::check`] without which no server starts.
    ///
    /// # Errors
    ///
    /// As [`Config::check`].
    pub fn check_start(&self, layers: &Layers) -> Result<(), ConfigError> {
        self.check_tls(layers)?;
        self.check_tracing(layers)?;
        crate::telemetry::logs::check(&self.log)
            .map_err(|error| ConfigError::new(layers.origin("log.level"), error.to_string()))?;
        match self.server.mode {
            Mode::Development => Ok(()),
            Mode::Production => {
                self.check_strength(layers)?;
                self.check_production(layers)
            }
        }
    }

    fn check_tls(&self, layers: &Layers) -> Result<(), ConfigError> {
        let (certificate, key) = (&self.tls.certificate, &self.tls.key);
        let alone = match (certificate, key) {
            (Some(_), None) => Some(("tls.certificate", "tls.key")),
            (None, Some(_)) => Some(("tls.key", "tls.certificate")),
            _ => None,
        };
        if let Some((given, missing)) = alone {
            let what = format!("{given} is given without {missing}; give both or neither");
            return Err(ConfigError::new(layers.origin(given), what));
        }
        for (path, file) in [("tls.certificate", certificate), ("tls.key", key)] {
            if let Some(file) = file {
                fs::File::open(file).map_err(|error| {
                    let what = format!("{path}: cannot read {}: {error}", file.display());
                    ConfigError::new(layers.origin(path), what)
                })?;
            }
        }
        Ok(())
    }

    fn check_tracing(&self, layers: &Layers) -> Result<(), ConfigError> {
        let wrong = |path: &str, what: &str| {
            Err(ConfigError::new(
                layers.origin(path),
                format!("{path}: {what}"),
            ))
        };
        if !(0.0..=1.0).contains(&self.tracing.sample) {
            return wrong("tracing.sample", "it must lie between 0 and 1");
        }
        let endpoint = &self.tracing.endpoint;
        let is_url = ["http://", "https://"]
            .iter()
            .any(|scheme| endpoint.starts_with(scheme));
        match self.tracing.enabled && !is_url {
            true => wrong("tracing.endpoint", "it must be an http or https URL"),
            false => Ok(()),
        }
    }

    fn check_strength(&self, layers: &Layers) -> Result<(), ConfigError> {
        let secrets = [
            ("accounts.jwt_secret", JWT_SECRET_BYTES_MIN),
            ("classworks.site_key", SITE_KEY_BYTES_MIN),
        ];
        for (path, bytes_min) in secrets {
            let len = layers.secret_len(path).unwrap_or(0);
            if len > 0 && len < bytes_min {
                return Err(ConfigError::new(
                    layers.origin(path),
                    format!(
                        "{path} is {len} bytes long and can be guessed; take at least {bytes_min} \
                         random ones, such as those of `openssl rand -hex {bytes_min}`"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_production(&self, layers: &Layers) -> Result<(), ConfigError> {
        let refuse = |path: &str, what: String| {
            Err(ConfigError::new(
                layers.origin(path),
                format!("{what} (refused because server.mode is production)"),
            ))
        };
        if self.auth.serve_openly {
            let what = "auth.serve_openly lets everybody in; switch it off";
            return refuse("auth.serve_openly", what.into());
        }
        let (clear, _) = self.server.addresses();
        let of_mounts = self.mount.values().filter(|mount| mount.enabled);
        let of_mounts = of_mounts.flat_map(|mount| mount.listen.iter().copied());
        let is_open = |addr: &SocketAddr| !addr.ip().to_canonical().is_loopback();
        let open = clear.into_iter().chain(of_mounts).find(is_open);
        if let Some(addr) = open.filter(|_| !self.tls.behind_proxy) {
            return refuse(
                "server.listen",
                format!(
                    "{addr} would be served in the clear; use server.tls_listen, or say \
                     tls.behind_proxy = true if a proxy does TLS"
                ),
            );
        }
        let forgets = self.store.url == "memory:"
            || self
                .mount
                .values()
                .any(|mount| mount.store.as_deref() == Some("memory:"));
        if forgets && !self.store.i_accept_loss {
            let what = "memory: forgets everything when the process ends; choose another store, or \
                        say store.i_accept_loss = true";
            return refuse("store.url", what.into());
        }
        for (path, file) in layers.secret_files() {
            if is_readable_by_all(&file) {
                return refuse(
                    &path,
                    format!(
                        "everybody on this machine can read {0}; run `chmod o-r {0}`",
                        file.display()
                    ),
                );
            }
        }
        Ok(())
    }
}

impl Layers {
    fn secret_len(&self, path: &str) -> Option<usize> {
        let found = self.values.get(path)?;
        Some(found.given.to_string().len())
    }

    /// Files that hold secrets in force: the private key, and wherever else one was read from.
    fn secret_files(&self) -> Vec<(String, std::path::PathBuf)> {
        let mut files = Vec::new();
        if let Some(key) = self.values.get("tls.key") {
            files.push(("tls.key".to_owned(), key.given.to_string().into()));
        }
        for (path, found) in &self.values {
            if !super::secrets::is_secret(path) || found.given.to_string().is_empty() {
                continue;
            }
            match (&found.file, &found.origin) {
                (Some(file), _) => files.push((path.clone(), file.clone())),
                (None, Origin::File { file, .. }) => files.push((path.clone(), file.clone())),
                _ => {}
            }
        }
        files
    }
}

fn is_readable_by_all(file: &Path) -> bool {
    let mode = fs::metadata(file).map(|metadata| metadata.permissions().mode());
    mode.is_ok_and(|mode| mode & READABLE_BY_ALL != 0)
}
