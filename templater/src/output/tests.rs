use super::*;
use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};
use tempfile::TempDir;

struct Case {
    dir: TempDir,
    spec: OutputSpec,
}

impl Case {
    /// A destination `out.txt` that nobody known reads.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = OutputSpec {
            destination: dir.path().join("out.txt"),
            mode: None,
            owner: (None, None),
            create_dirs: false,
            target: TargetSpec::Auto,
            check_cmd: None,
            reload_cmd: None,
            command_timeout: Duration::from_secs(10),
            state_dir: None,
        };
        Self { dir, spec }
    }

    fn output(&self) -> Output {
        Output::new(self.spec.clone(), Arc::default())
    }

    async fn put(&self, text: &str) -> Result<Put, PutError> {
        self.output().put(text).await
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn live(&self) -> String {
        fs::read_to_string(&self.spec.destination).unwrap_or_else(|_| "(absent)".into())
    }

    /// How often `reload_cmd` ran.
    fn reloads(&self) -> usize {
        fs::read_to_string(self.at("reloads")).map_or(0, |text| text.lines().count())
    }

    fn count_reloads(&mut self, then: &str) {
        let line = format!("echo x >> {}; {then}", self.at("reloads").display());
        self.spec.reload_cmd = Some(CommandLine::Shell(line));
    }

    /// Everything in the directory but the state.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap().flatten();
        let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|n| n != ".out.txt.templater").collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_new_text_goes_live_and_the_same_text_does_nothing() {
    let mut case = Case::new();
    case.count_reloads("true");
    assert_eq!(case.put("a\n").await.unwrap(), Put::Written);
    assert_eq!((case.live(), case.reloads()), ("a\n".into(), 1));
    let before = fs::metadata(&case.spec.destination).unwrap().ino();
    assert_eq!(case.put("a\n").await.unwrap(), Put::Same);
    assert_eq!(fs::metadata(&case.spec.destination).unwrap().ino(), before);
    assert_eq!(case.reloads(), 1);
    assert_eq!(case.names(), ["out.txt", "reloads"]);
}

#[tokio::test]
async fn a_file_that_was_right_before_us_is_left_alone() {
    let mut case = Case::new();
    case.count_reloads("true");
    fs::write(&case.spec.destination, "a\n").unwrap();
    assert_eq!(case.put("a\n").await.unwrap(), Put::Same);
    assert_eq!(case.reloads(), 0);
}

#[tokio::test]
async fn a_refused_text_never_goes_live() {
    let mut case = Case::new();
    case.count_reloads("true");
    case.spec.check_cmd =
        Some(CommandLine::Shell("grep -q good {src} || { echo 'line 1 is bad' >&2; exit 1; }".into()));
    assert_eq!(case.put("good\n").await.unwrap(), Put::Written);
    let error = case.put("bad\n").await.unwrap_err();
    assert!(matches!(&error, PutError::Refused { cause, .. } if cause.contains("line 1 is bad")), "{error:?}");
    assert!(error.report("look").contains("the old file stays in use\n  cause:"), "{}", error.report("look"));
    assert_eq!((case.live(), case.reloads()), ("good\n".into(), 1));
    assert_eq!(case.names(), ["out.txt", "reloads"], "no staged file is left");
}

#[tokio::test]
async fn a_check_that_hangs_is_a_refusal() {
    let mut case = Case::new();
    case.spec.command_timeout = Duration::from_millis(100);
    case.spec.check_cmd = Some(CommandLine::Words(vec!["sleep".into(), "60".into()]));
    let error = case.put("a\n").await.unwrap_err();
    assert!(error.report("").contains("did not end within 100ms"), "{}", error.report(""));
    assert_eq!(case.live(), "(absent)");
}

#[tokio::test]
async fn a_failed_reload_stays_owed_also_over_a_restart() {
    let mut case = Case::new();
    fs::write(&case.spec.destination, "old\n").unwrap();
    case.count_reloads("exit 1");
    let error = case.put("new\n").await.unwrap_err();
    assert!(matches!(error, PutError::Reload { .. }), "{error:?}");
    assert_eq!(case.live(), "new\n");
    assert!(case.put("new\n").await.is_err(), "tried again");
    case.count_reloads("true");
    assert_eq!(case.put("new\n").await.unwrap(), Put::Reloaded);
    assert_eq!(case.put("new\n").await.unwrap(), Put::Same);
    assert_eq!(case.reloads(), 3);
}

#[tokio::test]
async fn mode_and_owner_are_kept_or_set_before_the_file_is_seen() {
    let mut case = Case::new();
    // The reload runs after the swap and sees the file as any reader would.
    case.spec.reload_cmd =
        Some(CommandLine::Shell(format!("stat -c '%a %u %g' {{dst}} > {}", case.at("seen").display())));
    let seen = |case: &Case| fs::read_to_string(case.at("seen")).unwrap().trim().to_owned();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    case.put("a\n").await.unwrap();
    assert_eq!(seen(&case), format!("644 {uid} {gid}"));
    fs::set_permissions(&case.spec.destination, Permissions::from_mode(0o600)).unwrap();
    case.put("b\n").await.unwrap();
    assert_eq!(seen(&case), format!("600 {uid} {gid}"));
    case.spec.mode = Some(0o640);
    if uid.is_root() {
        case.spec.owner = (Some(1), Some(2));
        case.put("c\n").await.unwrap();
        assert_eq!(seen(&case), "640 1 2");
        case.spec.owner = (None, None);
        case.put("d\n").await.unwrap();
        assert_eq!(seen(&case), "640 1 2", "kept from the file before");
    } else {
        eprintln!("SKIP: changing owners needs root");
    }
}

#[tokio::test]
async fn a_symlink_stays_one() {
    let mut case = Case::new();
    fs::create_dir(case.at("real")).unwrap();
    fs::write(case.at("real/x"), "old").unwrap();
    std::os::unix::fs::symlink("real/x", case.at("link")).unwrap();
    case.spec.destination = case.at("link");
    case.put("new\n").await.unwrap();
    assert!(fs::symlink_metadata(case.at("link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(case.at("real/x")).unwrap(), "new\n");
}

#[tokio::test]
async fn a_missing_directory_is_an_error_or_made() {
    let mut case = Case::new();
    case.spec.destination = case.at("a/b/out.txt");
    let error = case.put("x").await.unwrap_err();
    assert!(error.to_string().contains("set create_dirs"), "{error}");
    case.spec.create_dirs = true;
    assert_eq!(case.put("x").await.unwrap(), Put::Written);
}

#[tokio::test]
async fn a_second_templater_is_locked_out() {
    let case = Case::new();
    let mut first = case.output();
    first.prepare().unwrap();
    let error = case.put("x").await.unwrap_err();
    assert!(error.to_string().contains("another templater (pid "), "{error}");
    drop(first);
    case.put("x").await.unwrap();
}

#[tokio::test]
async fn what_a_crash_left_is_cleared() {
    let case = Case::new();
    fs::write(case.at(".out.txt.tmp.1-0"), "half").unwrap();
    fs::write(case.at(".out.txt.tmpl"), "somebody else's").unwrap();
    case.put("x").await.unwrap();
    assert_eq!(case.names(), [".out.txt.tmpl", "out.txt"]);
}

#[tokio::test]
async fn a_preview_checks_and_changes_nothing() {
    let mut case = Case::new();
    case.count_reloads("true");
    case.spec.check_cmd = Some(CommandLine::Shell("! grep bad {src}".into()));
    fs::write(&case.spec.destination, "a\nb\n").unwrap();
    let diff = case.output().preview("a\nc\n").await.unwrap();
    assert!(diff.contains("\n-b\n+c\n") && diff.starts_with("--- "), "{diff}");
    assert_eq!(case.output().preview("a\nb\n").await.unwrap(), "");
    assert!(matches!(case.output().preview("bad\n").await, Err(PutError::Refused { .. })));
    assert_eq!((case.live(), case.reloads()), ("a\nb\n".into(), 0));
    assert_eq!(case.names(), ["out.txt"]);
}

#[tokio::test]
async fn a_mounted_file_is_written_in_place() {
    let case = Case::new();
    fs::write(case.at("source"), "a longer old text\n").unwrap();
    fs::write(&case.spec.destination, "").unwrap();
    let mounted = Command::new("mount")
        .args(["--bind".as_ref(), case.at("source").as_os_str(), case.spec.destination.as_os_str()])
        .output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        eprintln!("SKIP: a bind mount needs root");
        return;
    }
    let put = case.put("new\n").await;
    let through = fs::read_to_string(case.at("source")).unwrap();
    let left = Command::new("umount").arg(&case.spec.destination).status();
    assert_eq!(put.unwrap(), Put::Written);
    assert_eq!(through, "new\n");
    assert!(left.unwrap().success());
}

const HAPROXY: &str = "global\n  maxconn 10\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend f\n  bind 127.0.0.1:1\n";

/// Skips aloud where `program` is missing.
fn has(program: &str) -> bool {
    let found = crate::target::process::which(program).is_some();
    if !found {
        eprintln!("SKIP: {program} is not installed");
    }
    found
}

#[tokio::test]
async fn the_real_haproxy_is_asked_about_its_file() {
    let mut case = Case::new();
    case.spec.destination = case.at("haproxy.cfg");
    if !has("haproxy") {
        return;
    }
    assert_eq!(case.put(HAPROXY).await.unwrap(), Put::Written);
    let error = case.put(&format!("{HAPROXY}  bogus\n")).await.unwrap_err();
    assert!(error.to_string().starts_with("HAProxy refused the new "), "{error}");
    assert!(error.report("").contains("unknown keyword 'bogus'"), "{}", error.report(""));
    assert_eq!(case.live(), HAPROXY);
}

#[tokio::test]
async fn the_real_nginx_is_asked_about_a_whole_file_and_about_a_part() {
    let mut case = Case::new();
    if !has("nginx") {
        return;
    }
    case.spec.destination = case.at("nginx.conf");
    let pid = format!("pid {};\n", case.at("nginx.pid").display());
    assert_eq!(case.put(&format!("{pid}events {{}}\n")).await.unwrap(), Put::Written);
    let error = case.put(&format!("{pid}events {{}}\nbogus;\n")).await.unwrap_err();
    assert!(error.report("").contains("unknown directive \"bogus\""), "{}", error.report(""));

    case.spec.destination = case.at("web.conf");
    let upstream = |server: &str| format!("upstream web {{\n  server {server};\n}}\n");
    assert_eq!(case.put(&upstream("10.0.0.1:80")).await.unwrap(), Put::Written);
    let error = case.put(&upstream("10.0.0.1:99999")).await.unwrap_err();
    assert!(error.report("").contains("invalid port"), "{}", error.report(""));
    assert_eq!(case.live(), upstream("10.0.0.1:80"));
}
