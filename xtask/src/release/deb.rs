//! The Debian package, put together without debhelper: a handful of files and three scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::output;
use crate::root;

/// Where each packaged file goes, below the folder `packaging`.
const FILES: [(&str, &str); 4] = [
    ("kvasir.toml", "etc/kvasir/kvasir.toml"),
    (
        "systemd/kvasir.service",
        "lib/systemd/system/kvasir.service",
    ),
    ("systemd/kvasir.socket", "lib/systemd/system/kvasir.socket"),
    (
        "debian/lintian-overrides",
        "usr/share/lintian/overrides/kvasir",
    ),
];

/// Where each shell looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/kvasir"),
    ("zsh", "usr/share/zsh/vendor-completions/_kvasir"),
    ("fish", "usr/share/fish/vendor_completions.d/kvasir.fish"),
];

const MAINTAINER: &str = "The Kvasir authors <kvasir@example.invalid>";

pub(super) struct Package<'a> {
    pub(super) version: &'a str,
    pub(super) program: &'a Path,
    /// The time of everything inside, in seconds since 1970.
    pub(super) seconds: u64,
}

impl Package<'_> {
    /// Builds the package and returns its file.
    pub(super) fn build(&self, out: &Path) -> Result<PathBuf> {
        let staging = tempfile::tempdir()?;
        let tree = staging.path();
        let put = |to: &str, bytes: &[u8], mode: u32| put(tree, to, bytes, mode);
        put("usr/bin/kvasir", &fs::read(self.program)?, 0o755)?;
        for (from, to) in FILES {
            put(to, &packaging(from)?, 0o644)?;
        }
        put(
            "usr/share/doc/kvasir/copyright",
            copyright()?.as_bytes(),
            0o644,
        )?;
        put(
            "usr/share/doc/kvasir/changelog",
            self.changelog()?.as_bytes(),
            0o644,
        )?;
        self.put_pages(tree)?;
        for (shell, to) in COMPLETIONS {
            let completion = output(Command::new(self.program).args(["completion", shell]))?;
            put(to, completion.as_bytes(), 0o644)?;
        }
        gzip(tree, "usr/share/doc/kvasir/changelog")?;

        for script in ["postinst", "prerm", "postrm"] {
            let text = packaging(&format!("debian/{script}"))?;
            put(&format!("DEBIAN/{script}"), &text, 0o755)?;
        }
        put("DEBIAN/conffiles", b"/etc/kvasir/kvasir.toml\n", 0o644)?;
        put("DEBIAN/md5sums", md5sums(tree)?.as_bytes(), 0o644)?;
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
        let architecture = architecture.trim();
        put(
            "DEBIAN/control",
            self.control(tree, architecture)?.as_bytes(),
            0o644,
        )?;

        let file = out.join(format!("kvasir_{}_{architecture}.deb", self.version));
        let mut build = Command::new("dpkg-deb");
        build
            .args(["--root-owner-group", "--build"])
            .arg(tree)
            .arg(&file)
            .env("SOURCE_DATE_EPOCH", self.seconds.to_string());
        output(&mut build)?;
        Ok(file)
    }

    /// Manual pages, from the program itself.
    fn put_pages(&self, tree: &Path) -> Result<()> {
        let folder = tree.join("usr/share/man/man1");
        create_dir(&folder)?;
        output(
            Command::new(self.program)
                .args(["man", "--out"])
                .arg(&folder),
        )?;
        for page in fs::read_dir(&folder)? {
            let page = page?.path();
            fs::set_permissions(&page, fs::Permissions::from_mode(0o644))?;
            let name = page.strip_prefix(tree)?.to_string_lossy().into_owned();
            gzip(tree, &name)?;
        }
        Ok(())
    }

    fn control(&self, tree: &Path, architecture: &str) -> Result<String> {
        let program = fs::read(self.program)?;
        let mut depends = vec![
            "adduser".to_owned(),
            "init-system-helpers (>= 1.54)".to_owned(),
        ];
        if let Some(version) = newest_glibc(&program) {
            depends.push(format!("libc6 (>= {version})"));
        }
        if contains(&program, b"libgcc_s.so.1") {
            depends.push("libgcc-s1".to_owned());
        }
        let size = output(
            Command::new("du")
                .args(["-sk", "--exclude=DEBIAN"])
                .arg(tree),
        )?;
        let size = size.split_whitespace().next().unwrap_or("0").to_owned();
        Ok(format!(
            "Package: kvasir\nVersion: {}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
             Installed-Size: {size}\nDepends: {}\nSection: database\nPriority: optional\n\
             Description: key-value database server for existing HTTP APIs\n \
             Kvasir speaks six existing HTTP key-value APIs over one ordered,\n \
             transactional store. Programs written for any of them move to it by\n \
             changing an address.\n",
            self.version,
            depends.join(", "),
        ))
    }

    fn changelog(&self) -> Result<String> {
        let mut date = Command::new("date");
        date.args(["-R", "-u", "-d", &format!("@{}", self.seconds)]);
        Ok(format!(
            "kvasir ({}) stable; urgency=medium\n\n  * See https://example.invalid/kvasir for what is new.\n\n -- {MAINTAINER}  {}",
            self.version,
            output(&mut date)?
        ))
    }
}

/// The newest version of the C library that a program asks for.
fn newest_glibc(program: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"GLIBC_";
    let mut newest = None;
    for (at, _) in program
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == MARK)
    {
        let rest = &program[at + MARK.len()..];
        let digits = rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
        let text: String = digits.map(|byte| char::from(*byte)).collect();
        let numbers: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
        newest = newest.max(numbers);
    }
    let newest: Vec<String> = newest?.iter().map(u32::to_string).collect();
    Some(newest.join("."))
}

fn contains(program: &[u8], text: &[u8]) -> bool {
    program.windows(text.len()).any(|bytes| bytes == text)
}

fn packaging(file: &str) -> Result<Vec<u8>> {
    let path = root().join("packaging").join(file);
    fs::read(&path).with_context(|| format!("no {}", path.display()))
}

fn copyright() -> Result<String> {
    let license = fs::read_to_string(root().join("LICENSE"))?;
    let paragraphs = license.lines().map(|line| match line.trim() {
        "" => " .".to_owned(),
        line => format!(" {line}"),
    });
    let text: Vec<String> = paragraphs.collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: kvasir\nSource: https://example.invalid/kvasir\n\n\
         Files: *\nCopyright: 2026 The Kvasir authors\nLicense: MIT\n\nLicense: MIT\n{}\n",
        text.join("\n")
    ))
}

fn create_dir(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn put(tree: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(to);
    create_dir(path.parent().context("the file lies in a folder")?)?;
    fs::write(&path, bytes)?;
    // Folders of the temporary tree are as those of the system.
    let mut folder = path.parent();
    while let Some(inside) = folder.filter(|folder| folder.starts_with(tree)) {
        fs::set_permissions(inside, fs::Permissions::from_mode(0o755))?;
        folder = inside.parent();
    }
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(mode),
    )?)
}

fn gzip(tree: &Path, name: &str) -> Result<()> {
    output(Command::new("gzip").args(["-9n", name]).current_dir(tree))?;
    Ok(())
}

/// Sums of everything that is installed, conffiles excepted.
fn md5sums(tree: &Path) -> Result<String> {
    let mut find = Command::new("sh");
    find.args([
        "-c",
        "find usr lib -type f -print0 | sort -z | xargs -0 md5sum",
    ]);
    output(find.current_dir(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_the_c_library_counts() {
        let program = b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_PRIVATE\0GLIBC_2.2.5\0";
        assert_eq!(newest_glibc(program).as_deref(), Some("2.34"));
        assert_eq!(newest_glibc(b"static"), None);
    }
}
