//! The programs that ours is measured beside, each as good as it can be; their configurations are in `peers/`.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use flotilla_tests::{
    eventually,
    ports::free_port,
    program::{Launch, Program},
    web, workspace,
};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(20);

/// A file of `tests/bench/peers`.
pub(crate) fn file(name: &str) -> PathBuf {
    workspace().join("tests/bench/peers").join(name)
}

/// A folder on the disk that the build is on: `/tmp` may be memory. Readable to workers that are not root.
pub(crate) fn dir() -> TempDir {
    let root = std::env::current_exe().expect("a running program has a path");
    let root = root.parent().expect("a program is in a folder");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("bench-").permissions(PermissionsExt::from_mode(0o755));
    builder.tempdir_in(root).expect("the folder of the programs can be written")
}

/// The template `name`, with words put in, beside what it is about.
pub(crate) fn configured(name: &str, dir: &TempDir, words: &[(&str, String)]) -> PathBuf {
    let template = fs::read_to_string(file(name)).expect("it is in the repository");
    let text = words.iter().fold(template, |text, (word, value)| text.replace(word, value));
    let path = dir.path().join(name);
    fs::write(&path, text).expect("our own directory");
    path
}

/// A running nginx that serves files.
pub(crate) struct Nginx {
    _program: Program,
    dir: TempDir,
    port: u16,
}

impl Nginx {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir();
        let (dir, port) = (dir.expect("a temporary directory can be made"), free_port());
        let words = [("PORT", port.to_string()), ("ROOT", dir.path().display().to_string())];
        let config = configured("nginx.conf", &dir, &words);
        let launch = Launch::new("nginx").args(["-e", "stderr", "-g", "daemon off;", "-p"]).args([dir.path()]);
        let nginx = Self { _program: launch.args(["-c"]).args([config]).start(), dir, port };
        nginx.serve("started", "yes").await;
        nginx
    }

    /// The address of a file with `body` in it.
    pub(crate) async fn serve(&self, name: &str, body: &str) -> String {
        fs::write(self.dir.path().join(name), body).expect("our own directory");
        let url = format!("http://127.0.0.1:{}/{name}", self.port);
        let served = eventually!("nginx serves the file", START_LIMIT, async { web::get(&url).await });
        assert_eq!(served, body);
        url
    }
}

/// A running etcd of one member.
pub(crate) struct Etcd {
    _program: Program,
    _dir: TempDir,
    pub(crate) url: String,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let (dir, client, peer) = (dir(), free_port(), free_port());
        let root = dir.path().display().to_string();
        let words = [("CLIENT", client.to_string()), ("PEER", peer.to_string()), ("ROOT", root)];
        let config = configured("etcd.yaml", &dir, &words);
        let program = Launch::new("etcd").args(["--config-file".into(), config]).start();
        let url = format!("http://127.0.0.1:{client}");
        eventually!("etcd is healthy", START_LIMIT, async { web::get(&format!("{url}/health")).await });
        Self { _program: program, _dir: dir, url }
    }
}
