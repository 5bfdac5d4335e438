//! What READMEs of examples say, done word for word: their blocks of commands, each on the host that its first line names,
//! by hosts of a bed with a Docker each.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use flotilla_tests::{
    bed::{Bed, Host},
    docker::Dockerd,
    needs::Need,
    program::Launch,
    workspace,
};
use tempfile::TempDir;

/// Nothing takes longer, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A Docker that has Compose as `docker compose`, and images that need not be built.
const DOCKER: &str = r#"#!/bin/bash
PATH=${PATH#*:}
[ "$1" = compose ] || exec docker "$@"
words=()
for word in "${@:2}"; do
    [ "$word" != build ] || exit 0
    [ "$word" = --build ] || words+=("$word")
done
exec docker-compose "${words[@]}"
"#;

pub(crate) fn needs() -> Vec<Need> {
    let programs = ["bash", "curl", "dig", "docker-compose", "iptables"].map(Need::Program);
    [&Bed::NEEDS[..], &Need::DOCKER, &[Need::Tun], &programs].concat()
}

/// Hosts, each with a copy of the examples.
pub(crate) struct Stack {
    /// Those of the first hosts; before the hosts that they run on.
    pub(crate) dockers: Vec<Dockerd>,
    pub(crate) bed: Bed,
    dir: TempDir,
}

impl Stack {
    /// So many hosts with a Docker and all images, and so many without.
    pub(crate) fn start(with: usize, without: usize, images: &[&str]) -> Self {
        let (bed, dir) = (Bed::new(with + without), tempfile::tempdir().expect("a temporary directory can be made"));
        let docker = |host: &Host| {
            let docker = host.dockerd(&["--iptables=true", "--ip-forward=true"]);
            // As Docker does where it is the first to let the host forward.
            host.call("iptables", "--policy FORWARD DROP", "");
            docker.make_images(&[&["kvstore", "registrar", "overlay-nft", "load"], images].concat());
            docker
        };
        let dockers = thread::scope(|scope| {
            let started: Vec<_> = bed.hosts()[..with].iter().map(|host| scope.spawn(move || docker(host))).collect();
            started.into_iter().map(|docker| docker.join().expect("it has said why")).collect()
        });
        let stack = Self { dockers, bed, dir };
        for number in 0..with + without {
            stack.lay_out(number);
        }
        stack
    }

    /// The folders of the examples, as they are.
    fn lay_out(&self, number: usize) {
        let bin = self.home(number).join("bin");
        fs::create_dir_all(&bin).expect("our own directory");
        fs::write(bin.join("docker"), DOCKER).expect("our own directory");
        fs::set_permissions(bin.join("docker"), Permissions::from_mode(0o755)).expect("our own file");
        for folder in ["joining", "elastic", "networks"] {
            let (from, to) = (workspace().join("examples").join(folder), self.folder(number, folder));
            fs::create_dir_all(&to).expect("our own directory");
            for entry in fs::read_dir(&from).unwrap_or_else(|e| panic!("{}: {e}", from.display())).flatten() {
                fs::copy(entry.path(), to.join(entry.file_name())).expect("our own directory");
            }
        }
    }

    fn home(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    /// Where an example is on a host.
    pub(crate) fn folder(&self, number: usize, name: &str) -> PathBuf {
        self.home(number).join("examples").join(name)
    }

    /// What a shell on a host does.
    pub(crate) async fn shell(&self, number: usize, folder: &str, commands: &str) -> Result<String, String> {
        let host = self.bed.host(number);
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}:/usr/sbin:/sbin", self.home(number).join("bin").display());
        let launch = Launch::new("bash").args(["-euo", "pipefail", "-c", commands]).env("PATH", path);
        let mut launch = launch.dir(&self.folder(number, folder)).env("DNS_ADDRESS", Host::BRIDGE.to_string());
        if let Some(docker) = self.dockers.get(number) {
            launch = launch.env("DOCKER_HOST", docker.host()).env("DOCKER_SOCKET", docker.socket());
        }
        host.launch(launch).run(2 * LIMIT).await.ok()
    }

    /// What another installation would have otherwise: the addresses of the hosts and of Docker's bridge, and its socket.
    fn replaced(&self, number: usize, text: &str) -> String {
        let mut text = text.replace("172.17.0.1", &Host::BRIDGE.to_string());
        for (n, host) in self.bed.hosts().iter().enumerate() {
            text = text.replace(&format!("10.0.0.{}", n + 1), &host.address.to_string());
        }
        match self.dockers.get(number) {
            Some(docker) => text.replace("/var/run/docker.sock", &docker.socket().display().to_string()),
            None => text,
        }
    }
}

/// The commands of an example's README that were not done yet.
pub(crate) struct Readme<'a> {
    stack: &'a Stack,
    folder: &'static str,
    /// What each shell does first.
    first: String,
    /// A title and its commands.
    blocks: RefCell<VecDeque<(String, String)>>,
}

impl<'a> Readme<'a> {
    pub(crate) fn of(stack: &'a Stack, folder: &'static str) -> Self {
        let path = workspace().join("examples").join(folder).join("README.md");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut blocks = blocks(&text, &path);
        let first = match blocks.pop_front() {
            Some((title, commands)) if title == "In each shell" => commands,
            other => panic!("{} begins with what each shell does, not {other:?}", path.display()),
        };
        Self { stack, folder, first, blocks: RefCell::new(blocks) }
    }

    /// Does the next block, which has this title, on these hosts at once; what each said.
    pub(crate) async fn done(&self, title: &str, on: &[usize]) -> Vec<String> {
        let commands = self.next(title);
        let all = on.iter().map(|number| self.shell(*number, &commands));
        let done = futures_util::future::join_all(all).await;
        done.into_iter().map(|done| done.unwrap_or_else(|e| panic!("{title}:\n{commands}{e}"))).collect()
    }

    /// Of one host alone.
    pub(crate) async fn done_on(&self, title: &str, on: usize) -> String {
        self.done(title, &[on]).await.remove(0)
    }

    /// The commands of the next block, for a story that does them in its own way.
    pub(crate) fn next(&self, title: &str) -> String {
        let next = self.blocks.borrow_mut().pop_front();
        let (found, commands) = next.unwrap_or_else(|| panic!("README says no more, not {title:?}"));
        assert_eq!(found, title, "the next block of README");
        commands
    }

    /// The commands of the block after the next.
    pub(crate) fn after_next(&self) -> String {
        self.blocks.borrow().get(1).expect("README goes on").1.clone()
    }

    /// Commands as those of README.
    pub(crate) fn shell(
        &self,
        number: usize,
        commands: &str,
    ) -> impl Future<Output = Result<String, String>> + use<'a> {
        let (stack, folder) = (self.stack, self.folder);
        let commands = stack.replaced(number, &format!("{}{commands}", self.first));
        async move { stack.shell(number, folder, &commands).await }
    }

    /// Nothing is left undone.
    pub(crate) fn end(self) {
        assert_eq!(
            self.blocks.into_inner().into_iter().map(|(title, _)| title).collect::<Vec<_>>(),
            [""; 0],
            "not done"
        );
    }
}

/// Each block of `sh`, by what its first line says.
fn blocks(text: &str, path: &Path) -> VecDeque<(String, String)> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let titled = blocks.map(|block| {
        let (first, commands) = block.split_once('\n').unwrap_or((block, ""));
        let title = first.strip_prefix("# ").unwrap_or_else(|| panic!("{}: where? {block}", path.display()));
        (title.to_owned(), commands.to_owned())
    });
    titled.collect()
}

/// Does what the README of `joining` says up to a network on two hosts.
pub(crate) async fn join_two(stack: &Stack) {
    let readme = Readme::of(stack, "joining");
    readme.done("On a", &[0]).await;
    hand_on_secret(stack, 0, 1);
    readme.done("On b", &[1]).await;
}

/// What README tells in words.
pub(crate) fn hand_on_secret(stack: &Stack, from: usize, to: usize) {
    let secret = |number| stack.folder(number, "joining").join("secret");
    fs::copy(secret(from), secret(to)).expect("there is one");
}
