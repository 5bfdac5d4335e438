//! Files that belong together.

use super::*;

/// A main file and a part of it that go live together.
pub(super) struct Group {
    pub(super) case: Case,
    pub(super) files: [FileSpec; 2],
}

impl Group {
    pub(super) fn new() -> Self {
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
