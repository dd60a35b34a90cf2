//! Settings from all three sources, their origins, and what is refused.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;

/// Sources with a file of this text.
fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("kvasir.toml");
    std::fs::write(&path, text).unwrap();
    let sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    (folder, sources)
}

fn flag(path: &str, value: &str) -> (String, String, Vec<String>) {
    (path.into(), format!("--{path}"), vec![value.into()])
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

fn origin_of(layers: &Layers, path: &str) -> String {
    let rows = layers.effective();
    let row = rows.iter().find(|(row, _, _)| row == path).unwrap();
    row.2.to_string()
}

#[test]
fn the_strongest_form_of_a_setting_wins_and_its_origin_is_kept() {
    let (_folder, mut sources) = file("[limits]\nhead = \"1s\"\nidle = \"1s\"\nconnections = 7\n");
    sources.variables = vec![
        variable("KVASIR_LIMITS__HEAD", "2s"),
        variable("KVASIR_LIMITS__IDLE", "2s"),
    ];
    sources.flags = vec![flag("limits.head", "3s")];
    let (config, layers) = Config::load(&sources).unwrap();

    assert_eq!(config.limits.head, Duration::from_secs(3));
    assert_eq!(config.limits.idle, Duration::from_secs(2));
    assert_eq!(config.limits.connections, 7);
    assert_eq!(origin_of(&layers, "limits.head"), "--limits.head");
    assert_eq!(origin_of(&layers, "limits.idle"), "KVASIR_LIMITS__IDLE");
    assert!(origin_of(&layers, "limits.connections").ends_with("kvasir.toml:4:1"));
    assert_eq!(origin_of(&layers, "limits.body_gap"), "default");
}

#[test]
fn lists_come_as_arrays_repeated_flags_or_with_commas() {
    let addrs: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    let (_folder, in_file) = file("server.listen = [\"127.0.0.1:1\", \"[::1]:2\"]");
    let in_variable = Sources {
        variables: vec![variable("KVASIR_SERVER__LISTEN", "127.0.0.1:1, [::1]:2")],
        ..Sources::default()
    };
    let values = vec!["127.0.0.1:1".into(), "[::1]:2".into()];
    let as_flags = Sources {
        flags: vec![("server.listen".into(), "--listen".into(), values)],
        ..Sources::default()
    };
    for sources in [in_file, in_variable, as_flags] {
        let (config, _) = Config::load(&sources).unwrap();
        assert_eq!(config.server.listen, addrs);
    }
}

#[test]
fn an_unknown_name_is_refused_with_its_place_and_a_suggestion() {
    let (_folder, sources) = file("[limits]\n\n  hed = \"1s\"\n");
    let error = Config::load(&sources).unwrap_err();
    assert!(error.place.ends_with("kvasir.toml:3:3"), "{error}");
    assert_eq!(
        error.what,
        "limits.hed is no setting; did you mean limits.head?"
    );

    let sources = Sources {
        variables: vec![variable("KVASIR_LIMITS__HEADS", "1s")],
        ..Sources::default()
    };
    let error = Config::load(&sources).unwrap_err();
    assert_eq!(error.place, "KVASIR_LIMITS__HEADS");
}

#[test]
fn a_value_of_a_wrong_type_is_refused_with_its_place() {
    let (_folder, sources) = file("[limits]\nconnections = \"many\"\n");
    let error = Config::load(&sources).unwrap_err();
    assert!(error.place.ends_with("kvasir.toml:2:1"), "{error}");

    for (path, value) in [
        ("limits.head", "soon"),
        ("limits.connections", "-1"),
        ("metrics.enabled", "maybe"),
        ("log.format", "xml"),
        ("server.listen", "localhost"),
    ] {
        let sources = Sources {
            flags: vec![flag(path, value)],
            ..Sources::default()
        };
        let error = Config::load(&sources).unwrap_err();
        assert_eq!(error.place, format!("--{path}"), "{error}");
    }
}

#[test]
fn a_broken_file_is_refused_with_its_place() {
    let (_folder, sources) = file("[limits]\nhead = \n");
    let error = Config::load(&sources).unwrap_err();
    assert!(error.place.contains("kvasir.toml:2:"), "{error}");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let (folder, mut sources) = file("");
    let secret = folder.path().join("url");
    std::fs::write(&secret, "mysql://user:hidden@host/db\n").unwrap();
    sources.variables = vec![variable(
        "KVASIR_STORE__URL_FILE",
        &secret.to_string_lossy(),
    )];
    let (config, layers) = Config::load(&sources).unwrap();
    assert_eq!(config.store.url, "mysql://user:hidden@host/db");
    let rows = layers.effective();
    assert!(rows.contains(&(
        "store.url".into(),
        Some("<set>".into()),
        Origin::Variable("KVASIR_STORE__URL_FILE".into())
    )));

    sources.flags = vec![flag("store.url", "memory:")];
    let error = Config::load(&sources).unwrap_err();
    assert_eq!(error.place, "--store.url");
    assert!(error.what.contains("KVASIR_STORE__URL_FILE"), "{error}");
}

#[test]
fn mounts_have_names_of_the_operators_choice() {
    let (_folder, sources) = file("[mount.second]\ndialect = \"kopano\"\npath = \"/two\"\n");
    let (config, _) = Config::load(&sources).unwrap();
    let mount = &config.mount["second"];
    assert!(mount.enabled);
    assert_eq!(mount.path.as_deref(), Some("/two"));
}

#[test]
fn default_toml_holds_every_setting_with_its_default() {
    let example: String = DEFAULT_TOML
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let shown: toml::Table = example.parse().unwrap();
    for setting in Config::settings() {
        let mut names = setting.path.replace('*', "NAME");
        let mut value = shown.clone().into();
        for name in std::mem::take(&mut names).split('.') {
            value = match value {
                toml::Value::Table(mut table) => table.remove(name).unwrap_or_else(|| {
                    panic!("config/default.toml lacks {}", setting.path);
                }),
                _ => panic!("{} lies below a value", setting.path),
            };
        }
    }

    let (_folder, sources) = file(DEFAULT_TOML);
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(format!("{config:#?}"), format!("{:#?}", Config::default()));
}

#[test]
fn the_names_of_the_replaced_programs_are_understood() {
    let (_folder, mut sources) = file("");
    sources.variables = vec![
        variable("PORT", "3000"),
        variable("SITE_KEY", "key"),
        variable("KOPANO_KVS_DB_DRIVER", "sqlite3"),
        variable("KOPANO_KVS_DB_DATASOURCE", "/tmp/kvs.db"),
        variable("KOPANO_KVS_DB_MIGRATIONS", "/usr/share/migrations"),
        variable("KOPANO_KVS_ALLOW_CORS", "1"),
        variable("KOPANO_KVS_REQUIRED_SCOPES", "a b"),
        variable("OIDC_ISSUER_IDENTIFIER", "https://id.example"),
    ];
    let (config, layers) = Config::load(&sources).unwrap();
    assert_eq!(config.classworks.port, Some(3000));
    assert_eq!(config.kopano_db.driver, "sqlite3");
    assert_eq!(config.kopano_db.datasource, "/tmp/kvs.db");
    assert_eq!(config.kopano_db.migrations, "/usr/share/migrations");
    assert!(config.kopano.allow_cors);
    assert_eq!(config.kopano.required_scopes, "a b");
    assert_eq!(config.kopano.issuer.as_deref(), Some("https://id.example"));
    assert_eq!(origin_of(&layers, "classworks.port"), "PORT");
}

#[test]
fn a_name_of_a_replaced_program_that_is_set_to_nothing_says_nothing() {
    let (_folder, mut sources) = file("");
    sources.variables = ["PORT", "KOPANO_KVS_ALLOW_CORS", "OIDC_ISSUER_IDENTIFIER"]
        .map(|name| variable(name, ""))
        .into();
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(config.classworks.port, None);
    assert!(!config.kopano.allow_cors);
    assert_eq!(config.kopano.issuer, None);
}

#[test]
fn the_packaged_configuration_of_the_kopano_daemon_is_understood_as_variables() {
    let (_folder, mut sources) = file("");
    let packaged = [
        variable("listen", "127.0.0.1:8039"),
        variable("insecure", "yes"),
        variable("log_level", "fatal"),
        variable("plugins", "kvs pubs"),
        variable("plugin_kvs_db_drivername", "sqlite3"),
        variable(
            "plugin_kvs_db_datasource",
            "/var/lib/kopano/kapi-kvs/kvs.db",
        ),
        variable(
            "plugin_kvs_db_migrations",
            "/usr/lib/kopano/kapi-kvs/db/migrations",
        ),
        variable("oidc_issuer_identifier", "https://id.example"),
    ];
    sources.variables = packaged.to_vec();
    let (config, layers) = Config::load(&sources).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:8039".parse().unwrap()]);
    assert!(config.kopano.insecure);
    assert_eq!(config.log.level, "error");
    assert_eq!(config.kopano_db.driver, "sqlite3");
    assert_eq!(
        config.kopano_db.datasource,
        "/var/lib/kopano/kapi-kvs/kvs.db"
    );
    assert!(config.kopano_db.migrations.ends_with("migrations"));
    assert_eq!(config.kopano.issuer.as_deref(), Some("https://id.example"));
    assert_eq!(origin_of(&layers, "server.listen"), "listen");

    // The daemon's own variables win, and everyday words alone mean nothing.
    sources
        .variables
        .push(variable("OIDC_ISSUER_IDENTIFIER", "https://other.example"));
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(
        config.kopano.issuer.as_deref(),
        Some("https://other.example")
    );
    sources.variables = packaged[..4].to_vec();
    let (config, _) = Config::load(&sources).unwrap();
    assert!(config.server.listen.is_empty() && !config.kopano.insecure);
}

#[test]
fn the_port_of_the_original_means_a_listener_of_its_own_unless_it_is_taken() {
    let at = |flags: Vec<(String, String, Vec<String>)>| {
        let sources = Sources {
            variables: vec![variable("PORT", "3000")],
            flags,
            ..Sources::default()
        };
        let (config, _) = Config::load(&sources).unwrap();
        config.classworks_listener().map(|addr| addr.to_string())
    };
    assert_eq!(at(vec![]).as_deref(), Some("127.0.0.1:3000"));
    let public = flag("server.listen", "0.0.0.0:8000");
    assert_eq!(at(vec![public]).as_deref(), Some("0.0.0.0:3000"));
    assert_eq!(at(vec![flag("server.listen", "0.0.0.0:3000")]), None);
    assert_eq!(at(vec![flag("mount.classworks.enabled", "false")]), None);
    assert_eq!(
        at(vec![flag("mount.classworks.listen", "127.0.0.1:1")]),
        None
    );
    assert_eq!(at(vec![flag("mount.classworks.host", "kv.example")]), None);
}

/// A setting's path with its free names filled in.
fn named(setting: &Setting) -> String {
    setting.path.replace('*', "second")
}

#[test]
fn every_setting_exists_as_a_flag_as_a_variable_and_in_the_file() {
    let settings = Config::settings();
    assert!(settings.len() > 80, "{} settings", settings.len());
    for setting in &settings {
        let path = named(setting);
        let upper = path.to_uppercase().replace('.', "__");
        let in_variable = Sources {
            variables: vec![variable(&format!("KVASIR_{upper}"), "\u{1}")],
            ..Sources::default()
        };
        let as_flag = Sources {
            flags: vec![flag(&path, "\u{1}")],
            ..Sources::default()
        };
        let (_folder, in_file) = file(&format!("{path} = \"\\u0001\"\n"));
        for (form, sources) in [
            ("variable", in_variable),
            ("flag", as_flag),
            ("file", in_file),
        ] {
            // Such a text is right for some settings and wrong for others, but the name is known.
            match Config::load(&sources) {
                Ok((_, layers)) => {
                    assert_ne!(origin_of(&layers, &path), "default", "{path} as a {form}");
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        !text.contains("is no setting"),
                        "{path} as a {form}: {text}"
                    );
                    assert!(
                        [path.as_str(), &upper, "kvasir.toml:1:"]
                            .iter()
                            .any(|place| text.contains(place)),
                        "{form}: {text}"
                    );
                }
            }
        }
    }
}

#[test]
fn no_documented_example_shows_a_secret_to_other_users_of_the_machine() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut texts = Vec::new();
    for name in [
        "README.md",
        "docs/backends.md",
        "docs/backups.md",
        "docs/operators-guide.md",
        "docs/packaging.md",
        "docs/dialects/accounts.md",
        "docs/dialects/classworks.md",
        "docs/dialects/deno.md",
        "docs/dialects/edgekv.md",
        "docs/dialects/kopano.md",
        "docs/dialects/rest.md",
        "packaging/systemd/kvasir.service",
        "packaging/container/Containerfile",
        "packaging/kvasir.toml",
    ] {
        texts.push((
            name,
            std::fs::read_to_string(format!("{root}/{name}")).unwrap(),
        ));
    }
    // Addresses of stores are secrets because of the passwords that they may hold.
    let secrets = Config::settings();
    let secrets = secrets
        .iter()
        .filter(|setting| secrets::is_secret(&setting.path));
    let mut looked_for = 0;
    for secret in
        secrets.filter(|setting| setting.path != "store.url" && !setting.path.contains('*'))
    {
        looked_for += 1;
        for (name, text) in &texts {
            for form in [format!("--{} ", secret.path), format!("--{}=", secret.path)] {
                assert!(!text.contains(&form), "{name} shows {form}");
            }
        }
    }
    assert!(looked_for >= 3, "{looked_for} secrets");
}
