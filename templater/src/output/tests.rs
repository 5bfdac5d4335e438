mod group;
mod programs;

use super::*;
use crate::command::CommandLine;
use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

struct Case {
    dir: TempDir,
    file: FileSpec,
    spec: OutputSpec,
}

impl Case {
    /// A destination `out.txt` that nobody known reads.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = FileSpec { destination: dir.path().join("out.txt"), ..FileSpec::default() };
        let spec = OutputSpec {
            target: TargetSpec::Auto,
            check_cmd: None,
            stage_dir: None,
            reload: None,
            container: None,
            runtime_socket: None,
            min_reload_interval: Duration::ZERO,
            command_timeout: Duration::from_secs(10),
            rollback: None,
            keep_versions: 0,
            state_dir: None,
        };
        Self { dir, file, spec }
    }

    fn output(&self) -> Output {
        Output::new(self.spec.clone(), Arc::default(), Arc::default())
    }

    async fn put(&self, text: &str) -> Result<Put, PutError> {
        self.output().put(self.rendered(text)).await
    }

    async fn preview(&self, text: &str) -> Result<String, PutError> {
        self.output().preview(self.rendered(text)).await
    }

    fn rendered(&self, text: &str) -> Vec<Rendered> {
        vec![Rendered { file: self.file.clone(), text: text.into() }]
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn live(&self) -> String {
        fs::read_to_string(&self.file.destination).unwrap_or_else(|_| "(absent)".into())
    }

    /// How often `reload_cmd` ran.
    fn reloads(&self) -> usize {
        fs::read_to_string(self.at("reloads")).map_or(0, |text| text.lines().count())
    }

    fn count_reloads(&mut self, then: &str) {
        let line = format!("echo x >> {}; {then}", self.at("reloads").display());
        self.spec.reload = Some(ReloadSpec::Command(CommandLine::Shell(line)));
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
    let before = fs::metadata(&case.file.destination).unwrap().ino();
    assert_eq!(case.put("a\n").await.unwrap(), Put::Same);
    assert_eq!(fs::metadata(&case.file.destination).unwrap().ino(), before);
    assert_eq!(case.reloads(), 1);
    assert_eq!(case.names(), ["out.txt", "reloads"]);
}

#[tokio::test]
async fn a_file_that_was_right_before_us_is_left_alone() {
    let mut case = Case::new();
    case.count_reloads("true");
    fs::write(&case.file.destination, "a\n").unwrap();
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
    fs::write(&case.file.destination, "old\n").unwrap();
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
    let line = format!("stat -c '%a %u %g' {{dst}} > {}", case.at("seen").display());
    case.spec.reload = Some(ReloadSpec::Command(CommandLine::Shell(line)));
    let seen = |case: &Case| fs::read_to_string(case.at("seen")).unwrap().trim().to_owned();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    case.put("a\n").await.unwrap();
    assert_eq!(seen(&case), format!("644 {uid} {gid}"));
    fs::set_permissions(&case.file.destination, Permissions::from_mode(0o600)).unwrap();
    case.put("b\n").await.unwrap();
    assert_eq!(seen(&case), format!("600 {uid} {gid}"));
    case.file.mode = Some(0o640);
    if uid.is_root() {
        case.file.owner = (Some(1), Some(2));
        case.put("c\n").await.unwrap();
        assert_eq!(seen(&case), "640 1 2");
        case.file.owner = (None, None);
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
    case.file.destination = case.at("link");
    case.put("new\n").await.unwrap();
    assert!(fs::symlink_metadata(case.at("link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(case.at("real/x")).unwrap(), "new\n");
}

#[tokio::test]
async fn a_missing_directory_is_an_error_or_made() {
    let mut case = Case::new();
    case.file.destination = case.at("a/b/out.txt");
    let error = case.put("x").await.unwrap_err();
    assert!(error.to_string().contains("set create_dirs"), "{error}");
    case.file.create_dirs = true;
    assert_eq!(case.put("x").await.unwrap(), Put::Written);
}

#[tokio::test]
async fn a_second_templater_is_locked_out() {
    let case = Case::new();
    let mut first = case.output();
    first.prepare([&case.file]).unwrap();
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
    fs::write(&case.file.destination, "a\nb\n").unwrap();
    let diff = case.preview("a\nc\n").await.unwrap();
    assert!(diff.contains("\n-b\n+c\n") && diff.starts_with("--- "), "{diff}");
    assert_eq!(case.preview("a\nb\n").await.unwrap(), "");
    assert!(matches!(case.preview("bad\n").await, Err(PutError::Refused { .. })));
    assert_eq!((case.live(), case.reloads()), ("a\nb\n".into(), 0));
    assert_eq!(case.names(), ["out.txt"]);
}

#[tokio::test]
async fn a_mounted_file_is_written_in_place() {
    let case = Case::new();
    fs::write(case.at("source"), "a longer old text\n").unwrap();
    fs::write(&case.file.destination, "").unwrap();
    let mounted = Command::new("mount")
        .args(["--bind".as_ref(), case.at("source").as_os_str(), case.file.destination.as_os_str()])
        .output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        eprintln!("SKIP: a bind mount needs root");
        return;
    }
    let put = case.put("new\n").await;
    let through = fs::read_to_string(case.at("source")).unwrap();
    let left = Command::new("umount").arg(&case.file.destination).status();
    assert_eq!(put.unwrap(), Put::Written);
    assert_eq!(through, "new\n");
    assert!(left.unwrap().success());
}

#[tokio::test]
async fn a_reload_that_fails_is_rolled_back_where_that_is_wanted() {
    let mut case = Case::new();
    case.spec.keep_versions = 1;
    fs::write(&case.file.destination, "by hand\n").unwrap();
    case.count_reloads("! grep bad {dst}");
    case.spec.rollback = Some(true);
    let error = case.put("bad\n").await.unwrap_err();
    assert!(matches!(error, PutError::RolledBack { .. }), "{error:?}");
    assert_eq!((case.live(), case.reloads()), ("by hand\n".into(), 2), "and the old one is loaded again");
    assert_eq!(case.put("good\n").await.unwrap(), Put::Written);
    assert!(matches!(case.put("bad\n").await, Err(PutError::RolledBack { .. })));
    assert_eq!(case.put("good\n").await.unwrap(), Put::Same, "nothing is owed");

    case.spec.rollback = None;
    assert!(matches!(case.put("bad\n").await, Err(PutError::Reload { .. })), "a command says nothing of the file");
    assert_eq!(case.live(), "bad\n");
}

#[tokio::test]
async fn a_reload_that_failed_before_a_crash_is_rolled_back_after_it() {
    let mut case = Case::new();
    case.spec.keep_versions = 1;
    case.count_reloads("! grep bad {dst}");
    case.put("good\n").await.unwrap();
    case.put("bad\n").await.unwrap_err();
    assert_eq!(case.live(), "bad\n");
    case.spec.rollback = Some(true);
    assert!(matches!(case.put("bad\n").await, Err(PutError::RolledBack { .. })));
    assert_eq!(case.live(), "good\n");
}

#[tokio::test]
async fn the_last_good_versions_are_kept_and_only_good_ones() {
    let mut case = Case::new();
    case.spec.keep_versions = 2;
    fs::write(&case.file.destination, "by hand\n").unwrap();
    case.count_reloads("! grep bad {dst}");
    for (text, good) in [("1\n", true), ("bad\n", false), ("2\n", true)] {
        assert_eq!(case.put(text).await.is_ok(), good, "{text}");
    }
    let kept = |n: u8| fs::read_to_string(case.at(&format!(".out.txt.templater.{n}"))).unwrap_or_default();
    assert_eq!([kept(1), kept(2), kept(3)], ["2\n", "1\n", ""]);
}

#[tokio::test]
async fn the_temporary_file_is_seen_by_no_include() {
    let mut case = Case::new();
    // What `include *` of nginx and `-f DIRECTORY` of HAProxy would read while the check runs.
    let line = format!("test -s {{src}} && ls {} > {}", case.dir.path().display(), case.at("seen").display());
    case.spec.check_cmd = Some(CommandLine::Shell(line));
    case.put("x\n").await.unwrap();
    assert_eq!(fs::read_to_string(case.at("seen")).unwrap(), "seen\n");
}

#[tokio::test]
async fn a_destination_that_is_not_writable_is_told() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("SKIP: needs root to make a directory that even root cannot write");
        return;
    }
    let case = Case::new();
    let mount =
        |args: &[&str]| Command::new("mount").args(args).arg(case.dir.path()).status().is_ok_and(|s| s.success());
    if !mount(&["-t", "tmpfs", "-o", "ro", "none"]) {
        eprintln!("SKIP: a tmpfs cannot be mounted here");
        return;
    }
    let error = case.put("x").await.map_or_else(|e| e.report(""), |_| String::new());
    assert!(Command::new("umount").arg(case.dir.path()).status().unwrap().success());
    assert!(error.contains("out.txt.templater cannot be used: Read-only file system"), "{error}");
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_file_whole() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("SKIP: a small tmpfs needs root");
        return;
    }
    let case = Case::new();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(case.dir.path()).status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("SKIP: a tmpfs cannot be mounted here");
        return;
    }
    let small = case.put("small\n").await;
    let error = case.put(&"x".repeat(100_000)).await.map_or_else(|e| e.report(""), |_| String::new());
    let (live, names) = (case.live(), case.names());
    let again = case.put("small again\n").await;
    // In place there is no second copy: what does not fit must be taken back.
    let mut output = case.output();
    let set = read_all(case.rendered(&"y".repeat(100_000))).unwrap();
    output.prepare([&case.file]).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let staged = stage_in(&set, Some(elsewhere.path())).await.unwrap();
    let in_place = output.swap(&set, staged, None, true).await.map_err(|e| e.report(""));
    let live_after = case.live();
    drop(output);
    assert!(Command::new("umount").arg(case.dir.path()).status().unwrap().success());
    assert_eq!(small.unwrap(), Put::Written);
    assert!(error.contains("No space left on device") && error.contains("stage it in"), "{error}");
    assert_eq!((live, names), ("small\n".into(), vec!["out.txt".to_owned()]));
    assert_eq!(again.unwrap(), Put::Written);
    assert!(in_place.is_err_and(|e| e.contains("No space left on device")));
    assert_eq!(live_after, "small again\n");
}
