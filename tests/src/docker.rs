//! A real Docker daemon of the tests' own (`tests/dockerd.sh`), or podman (`tests/podman.sh`).

mod container;

use std::{
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;

pub use self::container::{Container, Network};
use crate::{
    namespace::Namespace,
    program::{Launch, Ran},
    programs, workspace,
};

/// The image of `examples/hello-web`, which `examples/images/make.sh` makes of the program that was built with the tests.
pub const HELLO_WEB: &str = "flotilla/hello-web";
/// The images that `tests/proxy-image.sh` makes.
pub const HAPROXY: &str = "flotilla/haproxy";
/// See [`HAPROXY`].
const NGINX: &str = "flotilla/nginx";

/// The images that `tests/caller-images.sh` makes: with glibc's `getent`, `dig` and `curl`, and with musl's resolver.
pub const CALLER: &str = "flotilla/caller";
/// See [`CALLER`].
pub const CALLER_MUSL: &str = "flotilla/caller-musl";

/// The registry's own image, made likewise.
pub const REGISTRY: &str = "flotilla/kvstore";

/// Longest time for one call of Docker's client.
const DOCKER_LIMIT: Duration = Duration::from_mins(1);

/// A running Docker daemon with the images of the stories; dropping it removes it, its containers and all that it kept.
pub struct Dockerd {
    dir: PathBuf,
    /// What starts and removes it.
    script: &'static str,
    /// What is entered before it is started, if it is not to be here: arguments of `nsenter`.
    inside: Vec<String>,
}

const DOCKERD: &str = "tests/dockerd.sh";
const PODMAN: &str = "tests/podman.sh";

static SHARED: OnceLock<Dockerd> = OnceLock::new();

impl Dockerd {
    /// The daemon that all stories share which do not stop theirs.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start)
    }

    /// Starts a daemon and makes the images.
    ///
    /// # Panics
    /// If it cannot be started, or an image cannot be made.
    pub fn start() -> Self {
        Self::with_dir(Self::new_dir("dockerd"), Vec::new())
    }

    /// Podman in its place, in this network namespace; it has [`HELLO_WEB`] only.
    ///
    /// # Panics
    /// If it cannot be started, or the image cannot be made.
    pub fn podman_in(namespace: &Namespace) -> Self {
        let dir = Self::new_dir("podman");
        std::fs::create_dir_all(&dir).expect("/tmp can be written");
        let network = namespace.path().display().to_string();
        std::fs::write(dir.join("namespace"), network).expect("our own directory");
        let podman = Self { dir, script: PODMAN, inside: Vec::new() };
        podman.start_again();
        podman.make_images(&["hello-web"]);
        podman
    }

    /// The same with these arguments of its own.
    ///
    /// # Panics
    /// If it cannot be started, or an image cannot be made.
    pub fn start_with(args: &[&str]) -> Self {
        let dir = Self::new_dir("dockerd");
        std::fs::create_dir_all(&dir).expect("/tmp can be written");
        write_arguments(&dir, args);
        Self::with_dir(dir, Vec::new())
    }

    /// Has its next start take these instead.
    pub fn arguments(&self, args: &[&str]) {
        write_arguments(&self.dir, args);
    }

    /// The same on another host: in this network namespace, where the bridge of this name is there already.
    ///
    /// # Panics
    /// If it cannot be started, or an image cannot be made.
    pub fn start_in(namespace: &Namespace, bridge: &str) -> Self {
        let dir = Self::with_bridge(bridge);
        Self::with_dir(dir, vec![format!("--net={}", namespace.path().display())])
    }

    /// The same with that host's mounts, too, and with these arguments of its own; it has [`HELLO_WEB`] only.
    ///
    /// # Panics
    /// If it cannot be started, or an image cannot be made.
    pub fn start_on(namespace: &Namespace, bridge: &str, args: &[&str]) -> Self {
        let dir = Self::with_bridge(bridge);
        write_arguments(&dir, args);
        let inside = vec![format!("--target={}", namespace.pid()), "--net".into(), "--mount".into()];
        let dockerd = Self { dir, script: DOCKERD, inside };
        dockerd.start_again();
        dockerd.make_images(&["hello-web"]);
        dockerd
    }

    fn with_bridge(bridge: &str) -> PathBuf {
        let dir = Self::new_dir("dockerd");
        std::fs::create_dir_all(&dir).expect("/tmp can be written");
        std::fs::write(dir.join("bridge"), format!("{bridge}\n")).expect("our own directory");
        dir
    }

    fn new_dir(kind: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // A short path: socket paths are limited to 108 bytes. The script finds leftovers by this prefix.
        format!("/tmp/flotilla-{kind}.{}.{n}", process::id()).into()
    }

    fn with_dir(dir: PathBuf, inside: Vec<String>) -> Self {
        let dockerd = Self { dir, script: DOCKERD, inside };
        dockerd.start_again();
        dockerd.make_images(&["hello-web"]);
        dockerd.script("tests/proxy-image.sh", &["haproxy"]);
        dockerd
    }

    /// Where it listens.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Ends the daemon by `signal`, and leaves what it keeps.
    pub fn halt(&self, signal: Signal) {
        self.script(self.script, &["halt", self.dir(), signal.as_str().trim_start_matches("SIG")]);
    }

    /// Starts the halted daemon with what it kept.
    pub fn start_again(&self) {
        let owner = process::id().to_string();
        let script = workspace().join(self.script);
        let start = [script.to_str().expect("a path of ours"), "start", self.dir(), &owner];
        if self.inside.is_empty() {
            return self.script(self.script, &start[1..]);
        }
        let entered: Vec<&str> = self.inside.iter().map(String::as_str).chain(start).collect();
        run_script(Path::new("nsenter"), &entered, "").unwrap_or_else(|e| panic!("dockerd in {:?}: {e}", self.inside));
    }

    /// The address of this machine, or of the namespace, that containers on the default bridge see.
    pub async fn gateway(&self) -> String {
        let gateway = "{{(index .IPAM.Config 0).Gateway}}";
        self.docker(&["network", "inspect", "--format", gateway, "bridge"]).await
    }

    /// Makes a network of this name, with a subnet that Docker chooses.
    ///
    /// # Panics
    /// If it is there already.
    pub async fn network(&self, name: &str) -> Network<'_> {
        self.docker(&["network", "create", name]).await;
        Network { dockerd: self, name: name.to_owned() }
    }

    fn dir(&self) -> &str {
        self.dir.to_str().expect("we made it of ASCII")
    }

    fn script(&self, path: &str, args: &[&str]) {
        run_script(&workspace().join(path), args, &self.host()).unwrap_or_else(|e| panic!("{path} {args:?}: {e}"));
    }

    /// Makes the images [`CALLER`] and [`CALLER_MUSL`].
    pub fn make_callers(&self) {
        self.script("tests/caller-images.sh", &[]);
    }

    /// Makes the image of nginx that `templater-nginx` is built upon.
    pub fn make_nginx(&self) {
        self.script("tests/proxy-image.sh", &["nginx"]);
    }

    /// Makes the images `flotilla/NAME` of programs that are being tested.
    ///
    /// # Panics
    /// If that fails.
    pub fn make_images(&self, names: &[&str]) {
        self.script("examples/images/make.sh", names);
    }

    /// Runs `docker ARGS` against this daemon.
    pub async fn try_docker(&self, args: &[&str]) -> Ran {
        Launch::new("docker").env("DOCKER_HOST", self.host()).args(args).run(DOCKER_LIMIT).await
    }

    /// Runs `docker ARGS`; its output without the last line break.
    ///
    /// # Panics
    /// If it fails.
    pub async fn docker(&self, args: &[&str]) -> String {
        let out = self.try_docker(args).await.ok();
        out.unwrap_or_else(|e| panic!("docker {}: {e}", args.join(" "))).trim_end().to_owned()
    }

    /// Makes `tag` of a Dockerfile that needs no other file.
    ///
    /// # Panics
    /// If that fails.
    pub async fn build(&self, tag: &str, dockerfile: &str) {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        self.build_in(dir.path(), tag, dockerfile).await;
    }

    /// Makes `tag` of a Dockerfile and the files of a folder.
    ///
    /// # Panics
    /// If that fails.
    pub async fn build_in(&self, dir: &Path, tag: &str, dockerfile: &str) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), dockerfile).expect("our own file");
        // The classic builder is part of every daemon.
        let launch = Launch::new("docker").env("DOCKER_HOST", self.host()).env("DOCKER_BUILDKIT", "0");
        let launch = launch.args(["build", "--quiet", "--tag", tag, "--file"]).args([file.path(), dir]);
        launch.run(DOCKER_LIMIT).await.ok().unwrap_or_else(|e| panic!("docker build {tag}: {e}"));
    }

    /// Starts a container, as `docker run --detach ARGS` does.
    ///
    /// # Panics
    /// If that fails.
    pub async fn run(&self, args: &[&str]) -> Container<'_> {
        let id = self.docker(&[&["run", "--detach"], args].concat()).await;
        Container { dockerd: self, id }
    }

    /// Makes a container that does not run yet, as `docker create ARGS` does.
    ///
    /// # Panics
    /// If that fails.
    pub async fn create(&self, args: &[&str]) -> Container<'_> {
        let id = self.docker(&[&["create"], args].concat()).await;
        Container { dockerd: self, id }
    }

    /// Starts a [`HELLO_WEB`] whose port is published where Docker likes, with these environment variables.
    pub async fn run_web(&self, env: &[&str]) -> Container<'_> {
        let mut args = vec!["--publish", "8080"];
        args.extend(env.iter().flat_map(|e| ["--env", e]));
        args.push(HELLO_WEB);
        self.run(&args).await
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        remove(self.script, &self.dir);
    }
}

/// Removes the shared daemon, if a story has used it. No story may run any more.
pub fn remove_shared() {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = SHARED.get().filter(|_| !*done) {
        remove(shared.script, &shared.dir);
        *done = true;
    }
}

/// One a line, for the script.
fn write_arguments(dir: &Path, args: &[&str]) {
    std::fs::write(dir.join("arguments"), args.join("\n")).expect("our own directory");
}

fn remove(script: &str, dir: &Path) {
    let removed = run_script(&workspace().join(script), &["remove", &dir.to_string_lossy()], "");
    if let Err(e) = removed {
        eprintln!("{} could not be removed: {e}", dir.display());
    }
}

fn run_script(path: &Path, args: &[&str], docker_host: &str) -> Result<(), String> {
    let log = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    // Into a file: a pipe would stay open for as long as the daemon that the script leaves behind.
    let out = || log.reopen().map_err(|e| e.to_string());
    let mut command = Command::new(path);
    command.args(args).env("DOCKER_HOST", docker_host).stdin(process::Stdio::null());
    command.env("PROGRAMS", programs()).env("DEBIAN_IMAGE", HAPROXY).env("HAPROXY_IMAGE", HAPROXY);
    command.env("NGINX_IMAGE", NGINX);
    let status = command.stdout(out()?).stderr(out()?).status().map_err(|e| e.to_string())?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{status}: {}", std::fs::read_to_string(log.path()).unwrap_or_default()))
}
