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
    case.file.destination = case.at("haproxy.cfg");
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
    case.file.destination = case.at("nginx.conf");
    let pid = format!("pid {};\n", case.at("nginx.pid").display());
    assert_eq!(case.put(&format!("{pid}events {{}}\n")).await.unwrap(), Put::Written);
    let error = case.put(&format!("{pid}events {{}}\nbogus;\n")).await.unwrap_err();
    assert!(error.report("").contains("unknown directive \"bogus\""), "{}", error.report(""));

    case.file.destination = case.at("web.conf");
    let upstream = |server: &str| format!("upstream web {{\n  server {server};\n}}\n");
    assert_eq!(case.put(&upstream("10.0.0.1:80")).await.unwrap(), Put::Written);
    let error = case.put(&upstream("10.0.0.1:99999")).await.unwrap_err();
    assert!(error.report("").contains("invalid port"), "{}", error.report(""));
    assert_eq!(case.live(), upstream("10.0.0.1:80"));
}

/// A main file and a part of it that go live together.
struct Group {
    case: Case,
    files: [FileSpec; 2],
}

impl Group {
    fn new() -> Self {
        let mut case = Case::new();
        fs::create_dir(case.at("conf.d")).unwrap();
        case.spec.keep_versions = 3;
        let file = |name: &str| FileSpec { destination: case.at(name), ..FileSpec::default() };
        let files = [file("main"), file("conf.d/part")];
        Self { case, files }
    }

    fn rendered(&self, texts: [&str; 2]) -> Vec<Rendered> {
        let one = |(file, text): (&FileSpec, &str)| Rendered { file: file.clone(), text: text.into() };
        self.files.iter().zip(texts).map(one).collect()
    }

    async fn put(&self, texts: [&str; 2]) -> Result<Put, PutError> {
        self.case.output().put(self.rendered(texts)).await
    }

    fn live(&self) -> [String; 2] {
        self.files.each_ref().map(|f| fs::read_to_string(&f.destination).unwrap_or_else(|_| "(absent)".into()))
    }

    fn journal(&self) -> PathBuf {
        self.case.at(".main.templater.undo")
    }
}

#[tokio::test]
async fn several_files_one_reload() {
    let mut group = Group::new();
    let seen = group.case.at("seen");
    group.case.count_reloads(&format!(
        "cat {0}/main {0}/conf.d/part > {1}",
        group.case.dir.path().display(),
        seen.display()
    ));
    assert_eq!(group.put(["a1\n", "b1\n"]).await.unwrap(), Put::Written);
    assert_eq!((group.case.reloads(), fs::read_to_string(&seen).unwrap()), (1, "a1\nb1\n".into()));
    assert_eq!(group.put(["a1\n", "b2\n"]).await.unwrap(), Put::Written);
    assert_eq!((group.case.reloads(), fs::read_to_string(&seen).unwrap()), (2, "a1\nb2\n".into()));
    assert_eq!(group.put(["a1\n", "b2\n"]).await.unwrap(), Put::Same);
    assert!(!group.journal().exists());
}

#[tokio::test]
async fn a_group_is_checked_in_a_copy_of_its_directory_and_goes_live_whole_or_not() {
    let mut group = Group::new();
    fs::write(group.case.at("conf.d/other"), "other\n").unwrap();
    let check = "cd {stage} && cat main conf.d/* > /dev/null && ! grep -rn bad . >&2 && grep -q other conf.d/other";
    group.case.spec.check_cmd = Some(CommandLine::Shell(check.into()));
    group.case.count_reloads("true");
    assert_eq!(group.put(["a1\n", "b1\n"]).await.unwrap(), Put::Written);
    let error = group.put(["a2\n", "bad\n"]).await.unwrap_err();
    assert!(error.report("").contains("./conf.d/part:1:bad"), "{}", error.report(""));
    assert_eq!(group.live(), ["a1\n", "b1\n"]);
    assert_eq!(group.case.reloads(), 1);
    let diff = group.case.output().preview(group.rendered(["a2\n", "b1\n"])).await.unwrap();
    assert!(diff.contains("+a2") && !diff.contains("b1"), "{diff}");
}

#[tokio::test]
async fn a_group_of_which_one_file_cannot_be_put_stays_as_it_was() {
    let group = Group::new();
    group.put(["a1\n", "b1\n"]).await.unwrap();
    // A directory in its place: the rename fails, after the other one succeeded.
    fs::remove_file(&group.files[1].destination).unwrap();
    let mut output = group.case.output();
    let set = read_all(group.rendered(["a2\n", "b2\n"])).unwrap();
    output.prepare(&group.files).unwrap();
    let staged = stage_all(&set).await.unwrap();
    fs::create_dir(&group.files[1].destination).unwrap();
    let journal = journal_of(&output.states[set[0].destination()]);
    let error = output.swap(&set, staged, Some(&journal), false).await.unwrap_err();
    assert!(matches!(error, PutError::Io { .. }), "{error:?}");
    assert_eq!(group.live()[0], "a1\n");
}

#[tokio::test]
async fn live_file_before_test_a_fragment_is_put_back_before_anything_reloads() {
    let mut case = Case::new();
    case.count_reloads("true");
    // It names neither {src} nor {stage}: it can look at the live file only.
    let live = case.file.destination.display().to_string();
    case.spec.check_cmd = Some(CommandLine::Shell(format!("! grep -n bad {live} >&2")));
    assert_eq!(case.put("good\n").await.unwrap(), Put::Written);
    let error = case.put("bad\n").await.unwrap_err();
    assert!(error.report("").contains("1:bad"), "{}", error.report(""));
    assert_eq!((case.live(), case.reloads()), ("good\n".into(), 1));
    assert!(case.preview("bad\n").await.unwrap().contains("+bad"), "a preview cannot run it");
    assert_eq!(case.names(), ["out.txt", "reloads"]);

    fs::remove_file(&case.file.destination).unwrap();
    case.put("bad\n").await.unwrap_err();
    assert_eq!(case.live(), "(absent)", "what was not there is not there again");
}

#[tokio::test]
async fn a_crash_between_swap_and_check_is_undone_at_the_next_start() {
    let group = Group::new();
    group.put(["a1\n", "b1\n"]).await.unwrap();
    let mut output = group.case.output();
    output.prepare(&group.files).unwrap();
    let set = read_all(group.rendered(["a2\n", "b2\n"])).unwrap();
    output.before_swap(&set).unwrap();
    let staged = stage_all(&set).await.unwrap();
    output.swap(&set, staged, Some(&group.journal()), false).await.unwrap();
    assert_eq!(group.live(), ["a2\n", "b2\n"]);
    drop(output); // the crash: nobody has checked them

    let mut output = group.case.output();
    output.prepare(&group.files).unwrap();
    assert_eq!(group.live(), ["a1\n", "b1\n"], "before anything is rendered");
    assert!(!group.journal().exists());
    assert_eq!(output.put(group.rendered(["a1\n", "b1\n"])).await.unwrap(), Put::Same, "nothing was reloaded");
}

#[tokio::test]
async fn a_damaged_journal_is_an_error_that_says_what_to_do() {
    let group = Group::new();
    group.put(["a1\n", "b1\n"]).await.unwrap();
    fs::write(group.journal(), "x").unwrap();
    let error = group.put(["a1\n", "b1\n"]).await.unwrap_err().report("");
    assert!(error.contains("main.templater.undo cannot be") && error.contains("remove it"), "{error}");
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

#[tokio::test]
async fn the_real_nginx_is_asked_about_a_main_file_with_its_parts() {
    let group = Group::new();
    if !has("nginx") {
        return;
    }
    let mut files = group.files.clone();
    files[0].destination = group.case.at("nginx.conf");
    files[1].destination = group.case.at("conf.d/web.conf");
    let main = format!(
        "pid {}/nginx.pid;\nevents {{}}\nhttp {{\n include conf.d/*.conf;\n server {{ location / {{ proxy_pass http://web; }} }}\n}}\n",
        group.case.dir.path().display()
    );
    let put = async |texts: [&str; 2]| {
        let one = |(file, text): (&FileSpec, &str)| Rendered { file: file.clone(), text: text.into() };
        group.case.output().put(files.iter().zip(texts).map(one).collect()).await
    };
    let upstream = |name: &str| format!("upstream {name} {{\n  server 10.0.0.1:80;\n}}\n");
    // Either alone would be refused: nobody knows a host of that name.
    assert_eq!(put([&main, &upstream("web")]).await.unwrap(), Put::Written);
    let error = put([&main.replace("http://web", "http://api.invalid"), &upstream("other")]).await.unwrap_err();
    assert!(error.report("").contains("host not found in upstream"), "{}", error.report(""));
    assert!(put([&main.replace("http://web", "http://api"), &upstream("api")]).await.is_ok());
}

#[tokio::test]
async fn files_go_in_one_step_with_those_that_come_and_come_back_if_the_check_fails() {
    let mut case = Case::new();
    let reload = CommandLine::Shell(format!("echo x >> {}", case.at("reloads").display()));
    case.spec.reload = Some(ReloadSpec::Command(reload));
    case.spec.check_cmd = Some(CommandLine::Shell("ls -A {stage} >&2; test ! -e {stage}/bad".into()));
    case.spec.stage_dir = Some(case.dir.path().into());
    case.spec.keep_versions = 2;
    let file = |name: &str| FileSpec { destination: case.at(name), ..FileSpec::default() };
    let rendered = |name: &str| Rendered { file: file(name), text: name.into() };
    let mut output = case.output();
    output.put(vec![rendered("a"), rendered("b")]).await.unwrap();
    assert_eq!(case.reloads(), 1);
    let put = output.put_and_remove(vec![rendered("b"), rendered("c")], vec![file("a")]).await.unwrap();
    assert_eq!((put, case.reloads()), (Put::Written, 2));
    assert!(!case.at("a").exists() && case.at("c").exists());
    let left = fs::read_dir(case.dir.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let left: Vec<_> = left.filter(|name| name.starts_with(".a.")).collect();
    assert_eq!(left, Vec::<String>::new());

    let error = output.put_and_remove(vec![rendered("bad")], vec![file("b")]).await.unwrap_err();
    assert!(matches!(error, PutError::Refused { .. }), "{error}");
    assert!(case.at("b").exists() && !case.at("bad").exists());
    // The last file goes alone.
    output.put_and_remove(vec![rendered("b")], vec![file("c")]).await.unwrap();
    output.put_and_remove(vec![], vec![file("b")]).await.unwrap();
    assert_eq!((case.at("b").exists(), case.reloads()), (false, 4));
    assert_eq!(output.put_and_remove(vec![], vec![]).await.unwrap(), Put::Same);
}
