//! `.edgerc` files, in which EdgeGrid clients look for their credential.
//!
//! The text of a file; reading and writing it is the caller's.

use secrecy::{ExposeSecret, SecretString};

use super::clients::Client;

/// One section of a file. Holds a secret, so it cannot be printed by accident. `None` for a
/// revoked client.
pub fn section(name: &str, host: &str, client: &Client) -> Option<SecretString> {
    let secret = client.secret.as_ref()?.expose_secret();
    Some(SecretString::from(format!(
        "[{name}]\nclient_secret = {secret}\nhost = {host}\naccess_token = {}\nclient_token = {}\n",
        client.access_token, client.client_token
    )))
}

/// The value of a member in a section; `None` if either is not there.
pub fn member<'a>(file: &'a str, section: &str, name: &str) -> Option<&'a str> {
    lines_of(file, section)
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The file with another host in a section; everything else stays as it is.
pub fn with_host(file: &str, section: &str, host: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(file.len() + host.len());
    for line in file.split_inclusive('\n') {
        let text = line.trim();
        if text.starts_with('[') {
            inside = is_head(text, section);
        }
        let is_host = text
            .split_once('=')
            .is_some_and(|(key, _)| key.trim() == "host");
        if inside && is_host {
            out.push_str("host = ");
            out.push_str(host);
            out.push('\n');
        } else {
            out.push_str(line);
        }
    }
    out
}

fn lines_of<'a>(file: &'a str, section: &str) -> impl Iterator<Item = &'a str> {
    let mut lines = file.lines().map(str::trim);
    lines.find(|line| is_head(line, section));
    lines.take_while(|line| !line.starts_with('['))
}

fn is_head(line: &str, section: &str) -> bool {
    line.strip_prefix('[')
        .and_then(|line| line.strip_suffix(']'))
        == Some(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# mine\n[other]\nhost = x\n\n[default]\nclient_token = c\nhost=y\n[last]\nhost = z";

    #[test]
    fn members_are_found_in_their_section_only() {
        assert_eq!(member(FILE, "default", "host"), Some("y"));
        assert_eq!(member(FILE, "default", "client_token"), Some("c"));
        assert_eq!(member(FILE, "last", "client_token"), None);
        assert_eq!(member(FILE, "none", "host"), None);
    }

    #[test]
    fn a_host_changes_in_one_section_and_nothing_else_does() {
        assert_eq!(
            with_host(FILE, "default", "127.0.0.1:9"),
            FILE.replace("host=y", "host = 127.0.0.1:9")
        );
    }
}
