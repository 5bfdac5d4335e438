//! What a compose file of the examples says, run by docker-compose.

use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{docker::Dockerd, program::Launch, workspace};

/// For one command on a busy machine, in which several containers start.
const LIMIT: Duration = Duration::from_mins(2);

/// The containers of a compose file; dropping it removes them and their volumes.
pub struct Compose<'a> {
    dockerd: &'a Dockerd,
    file: PathBuf,
    project: &'static str,
    env: Vec<(&'static str, String)>,
}

impl<'a> Compose<'a> {
    /// Those of `file`, below `examples`, under the name `project`, with this Docker and these variables; none runs yet.
    pub fn new(dockerd: &'a Dockerd, file: &str, project: &'static str, env: &[(&'static str, String)]) -> Self {
        let file = workspace().join("examples").join(file);
        let mut env = env.to_vec();
        let group = dockerd.socket().metadata().expect("the daemon listens").gid();
        env.extend([
            ("COMPOSE_PROJECT_NAME", project.to_owned()),
            ("DOCKER_HOST", dockerd.host()),
            ("DOCKER_SOCKET", dockerd.socket().display().to_string()),
            ("DOCKER_GID", group.to_string()),
        ]);
        Self { dockerd, file, project, env }
    }

    /// Runs `docker-compose ARGS`; what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub async fn run(&self, args: &[&str]) -> String {
        let launch = Launch::new("docker-compose").args(["--file".as_ref(), self.file.as_os_str()]).args(args);
        let launch = self.env.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        launch.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("docker-compose {}: {e}", args.join(" ")))
    }

    /// The whole ids of a service's containers, by the labels that compose gives them.
    pub async fn containers(&self, service: &str) -> Vec<String> {
        let service = format!("label=com.docker.compose.service={service}");
        let project = format!("label=com.docker.compose.project={}", self.project);
        let ask = ["ps", "--quiet", "--no-trunc", "--filter", &project, "--filter", &service];
        self.dockerd.docker(&ask).await.lines().map(str::to_owned).collect()
    }

    /// What Docker says of a service's container.
    pub async fn inspect(&self, service: &str, format: &str) -> String {
        let ids = self.containers(service).await;
        self.dockerd.docker(&["inspect", "--format", format, &ids[0]]).await
    }
}

impl Drop for Compose<'_> {
    fn drop(&mut self) {
        let compose = |args: &[&str]| {
            let mut command = Command::new("docker-compose");
            command.arg("--file").arg(&self.file).args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
            command.stdin(Stdio::null()).output()
        };
        if std::thread::panicking()
            && let Ok(logs) = compose(&["logs", "--no-color", "--tail", "30"])
        {
            eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        let _ = compose(&["down", "--volumes", "--timeout", "1"]);
    }
}
