//! The data folder, the disk below it, and certificates.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use kvasir_kv::UnixMillis;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::finding::{Finding, State};
use crate::config::Config;

/// Files of the data folder that hold secrets.
const SECRET_FILES: [&str; 5] = [
    "edgegrid/.edgerc",
    "tls/ca-key.pem",
    "tls/acme/account.json",
    "tls/acme/certificate.pem",
    "server.json",
];

/// Below this share of free space it is time to act, in percent.
const FREE_PERCENT_MIN: u64 = 10;
/// Below this the store soon refuses writes, in bytes.
const FREE_BYTES_MIN: u64 = 512 * 1024 * 1024;

/// How often the disk is asked to write through.
const SYNCS: usize = 20;
/// What no disk that keeps its promise is faster than. The quickest drives with a protected cache take
/// some 20 µs.
const SYNC_MIN: Duration = Duration::from_micros(10);
/// From here on every write waits noticeably.
const SYNC_SLOW: Duration = Duration::from_millis(50);

/// When a certificate that nobody renews by itself is worth a warning.
const CERTIFICATE_WARNED_MS: i64 = 21 * 24 * 3600 * 1000;

/// Whether only the owner reads the folder and its secrets.
pub(super) fn rights(data: &Path) -> Vec<Finding> {
    const CHECK: &str = "folder rights";
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) => {
            let what = format!("{}: {error}", data.display());
            let remedy = "name the server's folder with --data and run this as the server's user";
            return vec![Finding::of(CHECK, State::Bad, what, remedy)];
        }
    };
    let mut findings = Vec::new();
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && own != 0 {
        let what = format!("{} belongs to user {}", data.display(), metadata.uid());
        let remedy = format!(
            "run the server as that user, or: chown -R {own} {}",
            data.display()
        );
        findings.push(Finding::of(CHECK, State::Bad, what, remedy));
    }
    let mut open = Vec::new();
    let secrets = SECRET_FILES.iter().map(|name| data.join(name));
    for path in std::iter::once(data.to_path_buf()).chain(secrets) {
        let mode = std::fs::metadata(&path).map(|metadata| metadata.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o077 != 0) {
            open.push(path.display().to_string());
        }
    }
    if !open.is_empty() {
        let open = open.join(" ");
        let what = format!("others may read {open}");
        findings.push(Finding::of(
            CHECK,
            State::Bad,
            what,
            format!("chmod go-rwx {open}"),
        ));
    }
    if findings.is_empty() {
        let what = format!("only its owner reads {}", data.display());
        findings.push(Finding::good(CHECK, what));
    }
    findings
}

/// Whether there is room to grow.
pub(super) fn space(data: &Path) -> Finding {
    const CHECK: &str = "free space";
    match rustix::fs::statvfs(data) {
        Ok(found) => {
            let unit = found.f_frsize;
            judge_space(
                found.f_bavail.saturating_mul(unit),
                found.f_blocks.saturating_mul(unit),
            )
        }
        Err(error) => Finding::of(
            CHECK,
            State::Unknown,
            format!("{}: {error}", data.display()),
            "name the server's folder with --data",
        ),
    }
}

fn judge_space(free: u64, total: u64) -> Finding {
    const CHECK: &str = "free space";
    const REMEDY: &str =
        "make room or a larger volume; the store refuses writes when space runs out";
    let percent = free.saturating_mul(100) / total.max(1);
    let what = format!("{} MiB of {} MiB, {percent} %", free >> 20, total >> 20);
    if free < FREE_BYTES_MIN {
        Finding::of(CHECK, State::Bad, what, REMEDY)
    } else if percent < FREE_PERCENT_MIN {
        Finding::of(CHECK, State::Warning, what, REMEDY)
    } else {
        Finding::good(CHECK, what)
    }
}

/// Whether a sync waits until the disk has the data, as far as its time tells.
pub(super) fn sync(data: &Path) -> Finding {
    match time_of_a_sync(data) {
        Ok(median) => judge_sync(median),
        Err(error) => Finding::of(
            "sync",
            State::Unknown,
            format!("{error:#}"),
            "run this as the server's user",
        ),
    }
}

/// The median of some synced writes in the folder.
fn time_of_a_sync(data: &Path) -> anyhow::Result<Duration> {
    let path = data.join(".kvasir-doctor");
    let measure = || -> anyhow::Result<Duration> {
        let mut file = File::create(&path)?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let began = Instant::now();
            file.write_all(&[0x5a; 4096])?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort();
        Ok(times[SYNCS / 2])
    };
    let measured = measure().with_context(|| format!("cannot write {}", path.display()));
    // It may not have come into being.
    let _ = std::fs::remove_file(&path);
    measured
}

fn judge_sync(median: Duration) -> Finding {
    const CHECK: &str = "sync";
    let what = format!("a synced write of 4 KiB takes {median:.1?}");
    if median < SYNC_MIN {
        let remedy = "no disk is that fast: this is memory, or a volume that does not write through. \
                      Put the data folder on a real disk, or what was acknowledged is lost with the power";
        Finding::of(CHECK, State::Bad, what, remedy)
    } else if median > SYNC_SLOW {
        let remedy =
            "every write waits for this: use a faster disk, or one that others do not load";
        Finding::of(CHECK, State::Warning, what, remedy)
    } else {
        Finding::good(CHECK, what)
    }
}

/// When the certificates end that the server shows or has clients trust.
pub(super) fn certificates(config: &Config, now: UnixMillis) -> Vec<Finding> {
    let tls = config.server.data.join("tls");
    let renewed = "the server renews it by itself; look into its log for why it does not";
    let authority =
        "start the server anew, it makes another authority; give clients the new ca.pem";
    let own = config.tls.certificate.clone();
    let files = [
        own.map(|file| {
            (
                file,
                "put a new certificate and key there; they are taken over at once",
            )
        }),
        Some((tls.join("acme/certificate.pem"), renewed)),
        Some((tls.join("ca.pem"), authority)),
    ];
    let files = files
        .into_iter()
        .flatten()
        .filter(|(file, _)| file.exists());
    let findings: Vec<Finding> = files
        .map(|(file, remedy)| judge_certificate(&file, remedy, now))
        .collect();
    match findings.is_empty() {
        false => findings,
        true => vec![Finding::good(
            "certificate",
            "there is none, nothing is served over TLS",
        )],
    }
}

fn judge_certificate(file: &Path, remedy: &str, now: UnixMillis) -> Finding {
    const CHECK: &str = "certificate";
    let ends = || -> anyhow::Result<i64> {
        let certificate = CertificateDer::from_pem_file(file)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)?;
        Ok(parsed.validity().not_after.timestamp().saturating_mul(1000))
    };
    let name = file.display();
    match ends() {
        Err(error) => Finding::of(CHECK, State::Bad, format!("{name}: {error:#}"), remedy),
        Ok(ends) => {
            let left_ms = ends.saturating_sub(now.0);
            let what = format!(
                "{name} ends in {} days",
                left_ms.div_euclid(24 * 3600 * 1000)
            );
            match left_ms {
                ..=0 => Finding::of(CHECK, State::Bad, format!("{name} has ended"), remedy),
                left if left < CERTIFICATE_WARNED_MS => {
                    Finding::of(CHECK, State::Warning, what, remedy)
                }
                _ => Finding::good(CHECK, what),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn space_is_judged_by_bytes_and_by_share() {
        let gib = 1 << 30;
        assert_eq!(judge_space(100 * gib, 200 * gib).state, State::Good);
        assert_eq!(judge_space(19 * gib, 200 * gib).state, State::Warning);
        assert_eq!(judge_space(20 * gib, 200 * gib).state, State::Good);
        assert_eq!(
            judge_space(FREE_BYTES_MIN - 1, 2 * FREE_BYTES_MIN).state,
            State::Bad
        );
        assert_eq!(judge_space(0, 0).state, State::Bad);
        for (free, total) in [(19 * gib, 200 * gib), (0, gib)] {
            let remedy = judge_space(free, total).remedy.unwrap();
            assert!(remedy.contains("make room"), "{remedy}");
        }
        assert_eq!(judge_space(gib, gib).remedy, None);
    }

    #[test]
    fn a_sync_that_does_not_wait_is_found_out() {
        assert_eq!(judge_sync(Duration::from_micros(2)).state, State::Bad);
        assert_eq!(judge_sync(Duration::from_micros(200)).state, State::Good);
        assert_eq!(judge_sync(Duration::from_millis(80)).state, State::Warning);
        let remedy = |took| judge_sync(took).remedy.unwrap();
        assert!(remedy(Duration::from_micros(2)).contains("on a real disk"));
        assert!(remedy(Duration::from_millis(80)).contains("a faster disk"));
        let unwritable = sync(Path::new("/nowhere"));
        assert_eq!(unwritable.state, State::Unknown);
        assert!(unwritable.remedy.unwrap().contains("server's user"));
    }

    #[test]
    fn rights_of_the_folder_and_of_its_secrets_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(folder.path(), 0o700);
        assert_eq!(rights(folder.path())[0].state, State::Good);
        let secret = folder.path().join("server.json");
        std::fs::write(&secret, "").unwrap();
        set(&secret, 0o640);
        let [found] = &rights(folder.path())[..] else {
            panic!("one finding");
        };
        assert_eq!(found.state, State::Bad);
        assert!(found.remedy.as_ref().unwrap().contains("server.json"));
        let nowhere = &rights(Path::new("/nowhere"))[0];
        assert_eq!(nowhere.state, State::Bad);
        assert!(nowhere.remedy.as_ref().unwrap().contains("--data"));
    }

    #[test]
    fn certificates_are_judged_by_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cert.pem");
        let ending = |days: i64| {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            let now = Duration::from_millis(u64::try_from(NOW.0).unwrap());
            let end = now.as_secs() as i64 + days * 24 * 3600;
            let end = Duration::from_secs(u64::try_from(end).unwrap());
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
            let key = rcgen::KeyPair::generate().unwrap();
            std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
            judge_certificate(&file, "renew", NOW).state
        };
        assert_eq!(ending(-1), State::Bad);
        assert_eq!(ending(20), State::Warning);
        assert_eq!(ending(22), State::Good);
        std::fs::write(&file, "nothing").unwrap();
        let broken = judge_certificate(&file, "renew", NOW);
        assert_eq!(
            (broken.state, broken.remedy.as_deref()),
            (State::Bad, Some("renew"))
        );
        // Each kind of certificate has a remedy of its own.
        let mut config = Config::default();
        config.server.data = folder.path().to_path_buf();
        config.tls.certificate = Some(file.clone());
        std::fs::create_dir_all(folder.path().join("tls/acme")).unwrap();
        for name in ["tls/acme/certificate.pem", "tls/ca.pem"] {
            std::fs::write(folder.path().join(name), "nothing").unwrap();
        }
        let found = certificates(&config, NOW);
        let remedies: Vec<_> = found
            .iter()
            .map(|found| found.remedy.clone().unwrap())
            .collect();
        for (remedy, word) in
            remedies
                .iter()
                .zip(["a new certificate and key", "log", "new ca.pem"])
        {
            assert!(remedy.contains(word), "{remedy}");
        }
        assert_eq!(remedies.len(), 3);
    }
}
