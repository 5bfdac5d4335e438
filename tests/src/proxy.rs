//! Real HAProxy and nginx, each in a directory of its own that holds the template and the configuration made of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    docker::{Container, Dockerd, HAPROXY},
    eventually,
    ports::free_port,
    program::{Launch, Program},
    web, workspace,
};

/// A proxy that has not bound its port by then does not start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `haproxy -W`.
    Haproxy,
    /// nginx.
    Nginx,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// A directory with the example's template, and the port that its `HTTP_PORT` is set to.
pub struct Site {
    /// Which proxy reads it.
    pub kind: Kind,
    /// Where it listens.
    pub port: u16,
    dir: TempDir,
}

impl Site {
    /// A copy of the example's template in a new directory.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn new(kind: Kind) -> Self {
        let dir =
            tempfile::Builder::new().prefix("flotilla-site-").tempdir().expect("a temporary directory can be made");
        let site = Self { kind, port: free_port(), dir };
        let name = kind.name();
        let example = workspace().join(format!("examples/{name}/{name}.tmpl"));
        fs::copy(&example, site.template()).unwrap_or_else(|e| panic!("{}: {e}", example.display()));
        site
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The template.
    pub fn template(&self) -> PathBuf {
        self.dir().join(format!("{}.tmpl", self.kind.name()))
    }

    /// The file that the proxy reads: what `templater --template` makes of the template's name.
    pub fn config(&self) -> PathBuf {
        self.dir().join(match self.kind {
            Kind::Haproxy => "haproxy.cfg",
            Kind::Nginx => "nginx.conf",
        })
    }

    /// Where visitors come in.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Our templater on this site's template, with the port that it asks the environment for; arguments are added by
    /// the caller.
    pub fn templater(&self, registry_url: &str) -> Launch {
        let launch = Launch::ours("templater").env("HTTP_PORT", self.port.to_string()).dir(self.dir());
        launch.args(["--registry", registry_url, "--template"]).args([self.template()])
    }

    /// Starts the proxy on its configuration, as a process of this machine.
    pub async fn start(&self) -> Program {
        let config = self.config();
        let mut program =
            match self.kind {
                Kind::Haproxy => Launch::new("haproxy").args(["-W", "-f"]).args([&config]),
                Kind::Nginx => Launch::new("nginx")
                    .args([Path::new("-p"), self.dir(), Path::new("-c"), &config])
                    .args(["-e", "stderr", "-g", "daemon off;"]),
            }
            .start();
        eventually!(format!("{:?} listens", self.kind), START_LIMIT, async {
            assert!(program.is_running(), "{:?} ended at once:\n{}", self.kind, program.log());
            self.answers().await
        });
        program
    }

    /// Starts HAProxy on its configuration, as a container that shares this machine's network.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_container<'a>(&self, dockerd: &'a Dockerd) -> Container<'a> {
        assert_eq!(self.kind, Kind::Haproxy, "there is no image of any other");
        let mount = format!("{}:/etc/haproxy", self.dir().display());
        let container = dockerd.run(&["--network", "host", "--volume", &mount, HAPROXY]).await;
        let listens =
            crate::wait::poll("HAProxy's container listens", START_LIMIT, async || self.answers().await).await;
        if let Err(e) = listens {
            panic!("{e}\n{}", container.logs().await);
        }
        container
    }

    /// Any answer will do: without instances it is an error page.
    async fn answers(&self) -> Result<(), String> {
        web::ask(reqwest::Method::GET, &self.url()).await.map(drop)
    }
}

/// The template of a HAProxy that listens at `bind` and sends visitors to the live instances of `web`, each of them once:
/// a server that is away fails whoever is sent to it. It waits for connections and for answers so long.
pub fn haproxy_without_retries(bind: &str, connect: &str, answer: &str) -> String {
    format!(
        r#"global
    log stdout format raw local0 notice
defaults
    mode http
    timeout connect {connect}
    timeout client {answer}
    timeout server {answer}
    retries 0
    # A visitor's idle connection is closed with the next answer, not under the next request.
    option idle-close-on-response
frontend web
    bind {bind}
    default_backend web
backend web
{{%- for instance in service(name="web", live=true) %}}
    server {{{{ instance.id | ident }}}} {{{{ instance.address }}}}:{{{{ instance.port }}}}
{{%- endfor %}}
"#
    )
}
